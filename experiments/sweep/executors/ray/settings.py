"""Which of Ray's settings hold for our runs. Nothing here imports Ray: it reads most of them when it is imported."""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from rich.filesize import decimal

from experiments.machine.home import user_path
from ledger.errors import UserError

CHANGING = (
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_OVERRIDE_RESOURCES",
    "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES",
    "RAY_REDIS_ADDRESS",
    "RAY_CLIENT_MODE",
)
"""A cluster's owner says by these what its processes are, what they have or where it keeps its state. One of our own,
made within another one's job, is not that cluster."""
SOCKET = "/ray/session_2026-11-29_16-49-02_884666_1234567/sockets/plasma_store"
MAX_BYTES = (103 if sys.platform == "darwin" else 107) - len(SOCKET)
"""How long a folder's name may be: the system allows no more for the name of a socket in it."""
ROOM = 2**28
"""Bytes of logs, of our code, and of images where there is no shared memory."""


def prepare(environment: MutableMapping[str, str]) -> None:
    """Set what Ray reads as it is imported."""
    # A call of Ray's after the connection was lost would quietly make a cluster of its own.
    environment.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # Under `uv run`, workers would be started by it as well, in a copy of the working directory without its .venv.
    environment.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    if not environment.get("RAY_ADDRESS"):
        # A cluster of our own listens to the network, and runs any code that it is given.
        environment.setdefault("RAY_AUTH_MODE", "token")
        environment.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        for name in CHANGING:
            environment.pop(name, None)


def choose_folder(environment: Mapping[str, str]) -> Path:
    """Where a cluster of our own makes its folder: RAY_TMPDIR, else a folder that is short enough and has room.

    Raises UserError where there is none.
    """
    given = environment.get("RAY_TMPDIR")
    places = (given,) if given else (environment.get("TMPDIR"), "/tmp", "/var/tmp", environment.get("XDG_RUNTIME_DIR"))
    reasons = []
    for place in filter(None, places):
        folder = user_path(place, "RAY_TMPDIR" if given else "TMPDIR").absolute()
        if not (reason := unfit(folder)):
            return folder
        reasons.append(f"{folder} {reason}")
    raise UserError(f"executor: Ray on this machine: {'; '.join(reasons)}: set RAY_TMPDIR to a short folder with room")


def unfit(folder: Path) -> str:
    """Why Ray cannot keep its files and sockets in the folder; "" if it can."""
    if len(os.fsencode(folder)) > MAX_BYTES:
        return f"has a name of more than {MAX_BYTES} bytes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = folder / "ray"  # another user may have made it
        tempfile.TemporaryFile(dir=there if there.exists() else folder).close()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return f"has only {decimal(free)} of room" if free < ROOM else ""
