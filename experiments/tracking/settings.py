"""What the user has told W&B's client by variables and files, read as it does; to start it would cost a second."""

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from ledger.errors import UserError, nearest

Mode = Literal["online", "offline", "disabled"]
MODES: dict[str, Mode] = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
    "run": "online",
    "dryrun": "offline",
}
"""W&B's names for them; the last two are old ones."""
# Of the user's W&B variables, those that say where and as whom to upload; the rest describe some other run.
_ACCOUNT = (
    "WANDB_API_KEY",
    "WANDB_APP_URL",
    "WANDB_BASE_URL",
    "WANDB_CREDENTIALS_FILE",
    "WANDB_ENTITY",
    "WANDB_HTTP_PROXY",
    "WANDB_HTTPS_PROXY",
    "WANDB_IDENTITY_TOKEN_FILE",
    "WANDB_INSECURE_DISABLE_SSL",
    "WANDB_X_EXTRA_HTTP_HEADERS",
    "WANDB__EXTRA_HTTP_HEADERS",
)
_FROM_FILES = {name.removeprefix("WANDB_").lower(): name for name in _ACCOUNT} | {"app_url_override": "WANDB_APP_URL"}
_PATHS = ("NETRC", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "WANDB_CREDENTIALS_FILE", "WANDB_IDENTITY_TOKEN_FILE")


class Setting(NamedTuple):
    """A value, and what says so: a variable or a file."""

    value: str
    source: str


def client_mode() -> Setting:
    """The mode that W&B's client would take here; the source is "" where nothing says.

    Raises UserError for a mode that is not one of MODES, and for a settings file that cannot be read.
    """
    mode = Setting(os.environ.get("WANDB_MODE", ""), "WANDB_MODE")
    if not mode.value:
        mode = file_settings().get("mode", Setting("online", ""))
        # With this variable `wandb offline` writes its file there, although the client then reads it nowhere.
        if MODES.get(mode.value) == "online" and (elsewhere := os.environ.get("WANDB_DIR")):
            written = _read(_workspace(Path(elsewhere).absolute())).get("mode", mode)
            mode = mode if MODES.get(written.value) == "online" else written
    if mode.value not in MODES:
        where = "environment: WANDB_MODE" if mode.source == "WANDB_MODE" else f"{mode.source}: mode"
        if mode.value == "shared":
            raise UserError(f"{where}: 'shared' is W&B's, but not supported here; use online, offline or disabled")
        raise UserError(f"{where}: {mode.value!r} is not a mode; {nearest(mode.value, MODES.values())}")
    return mode


def file_settings() -> dict[str, Setting]:
    """All that W&B's settings files say; those of the working directory go before the user's own.

    Raises UserError for a file that cannot be read.
    """
    users = at_home(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb")
    return {**(_read(users / "settings") if users else {}), **_read(_workspace(Path()))}


def upload_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, where W&B's variables say where and as whom to upload, as its settings files do, and no more."""
    files = {_FROM_FILES[key]: setting.value for key, setting in file_settings().items() if key in _FROM_FILES}
    if {"WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"} & {*environment}:  # two logins would be refused
        files.pop("WANDB_API_KEY", None)
    files.pop("WANDB_IDENTITY_TOKEN_FILE", None)  # the client takes that from a variable only
    kept = {name: value for name, value in environment.items() if name in _ACCOUNT or not name.startswith("WANDB_")}
    account = files | kept
    # The upload runs in another folder.
    return account | {name: os.path.abspath(os.path.expanduser(account[name])) for name in _PATHS if account.get(name)}


def at_home(path: str) -> Path | None:
    """The path, with "~" written out; None where that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return None


def _workspace(folder: Path) -> Path:
    return folder / (".wandb" if (folder / ".wandb").exists() else "wandb") / "settings"


def _read(path: Path) -> dict[str, Setting]:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        return {name: Setting(value, str(path)) for name, value in parser.items("default")}
    except (FileNotFoundError, NotADirectoryError, configparser.NoSectionError):
        return {}
    except (OSError, ValueError, configparser.Error) as fault:
        reason = " ".join((getattr(fault, "strerror", None) or str(fault)).split())
        raise UserError(f"{path}: cannot be read as W&B's settings ({reason}); mend or remove it") from None
