"""What the user told W&B's client holds here as well: its mode, its server and its login, and nothing besides."""

import io
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.terminal.commands.wandb_report import save
from experiments.terminal.display import print_tracking
from experiments.tracking import logged_values, report
from experiments.tracking.settings import client_mode, upload_environment
from experiments.tracking.tracker import Tracker, find_mode, resolve_mode, sync
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.support.project import ROOT
from tests.support.wandb_runs import API_KEY, Offline, commit, log_run
from tests.support.wandb_server import Server

pytestmark = pytest.mark.long

ONLINE, OFFLINE, DISABLED = ("[default]\nmode = online\n", "[default]\nmode=offline\n", "[default]\nmode: disabled\n")
OWN = "home/.config/wandb/settings"

ASK = """
import json, os, sys
from wandb.sdk.wandb_setup import _WandbSetup
place, modes = os.environ.copy(), []
for folder, variables in json.loads(sys.stdin.read()):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(place | variables | {"HOME": f"{folder}/home"})
    settings = _WandbSetup(os.getpid()).settings
    modes.append("disabled" if settings._noop else "offline" if settings._offline else "online")
sys.stdout.write(json.dumps(modes))
os._exit(sys.stdout.flush() or 0)
"""

SITUATIONS: list[tuple[dict[str, str], dict[str, str]]] = [
    ({}, {}),
    ({"WANDB_MODE": "offline"}, {}),
    ({"WANDB_MODE": "dryrun"}, {OWN: ONLINE}),
    ({"WANDB_MODE": "run"}, {"wandb/settings": OFFLINE}),
    ({"WANDB_MODE": "online"}, {"wandb/settings": DISABLED}),
    ({"WANDB_DISABLED": "true"}, {}),
    ({}, {"wandb/settings": OFFLINE}),
    ({}, {"wandb/settings": DISABLED}),
    ({}, {"wandb/settings": "[default]\nmode = dryrun\n"}),
    ({}, {"wandb/settings": "[default]\nMODE = offline\n"}),
    ({}, {"wandb/settings": "[other]\nmode = offline\n"}),
    ({}, {"wandb/settings": "[DEFAULT]\nmode = offline\n"}),
    ({}, {"wandb/settings": "[DEFAULT]\nmode = offline\n[default]\nentity = team\n"}),
    ({}, {OWN: DISABLED}),
    ({}, {OWN: DISABLED, "wandb/settings": ONLINE}),
    ({}, {OWN: ONLINE, "wandb/settings": OFFLINE}),
    ({}, {OWN: OFFLINE, "wandb/settings": "[default]\nentity = team\n"}),
    ({}, {".wandb/settings": OFFLINE, "wandb/settings": DISABLED}),
    ({}, {".wandb/nothing": "", "wandb/settings": DISABLED}),
    ({"WANDB_CONFIG_DIR": "conf"}, {"conf/settings": OFFLINE, OWN: DISABLED}),
    ({"WANDB_CONFIG_DIR": "~/conf"}, {"home/conf/settings": OFFLINE}),
    ({"WANDB_CONFIG_DIR": ""}, {OWN: DISABLED}),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a home of its own in it, in which somebody is logged in."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("NETRC", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    return tmp_path


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def wandb(*arguments: str, **variables: str) -> None:
    command = [sys.executable, "-m", "wandb", *arguments]
    subprocess.run(command, env=os.environ | variables, check=True, capture_output=True)


def test_auto_is_the_mode_that_the_client_takes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [place / str(number) for number in range(len(SITUATIONS))]
    for folder, (_, files) in zip(folders, SITUATIONS, strict=True):
        put(folder, {"home/empty": "", **files})
    asked = [(str(folder), variables) for folder, (variables, _) in zip(folders, SITUATIONS, strict=True)]
    client = subprocess.run([sys.executable, "-c", ASK], input=json.dumps(asked), capture_output=True, text=True)
    ours = []
    for folder, (variables, _) in zip(folders, SITUATIONS, strict=True):
        with monkeypatch.context() as there:
            there.chdir(folder)
            for name, value in {**variables, "HOME": str(folder / "home")}.items():
                there.setenv(name, value)
            ours.append(resolve_mode("auto"))
    assert ours == json.loads(client.stdout), client.stderr
    assert {*ours} == {"online", "offline", "disabled"}


@pytest.mark.parametrize("variables", [{}, {"WANDB_DIR": "elsewhere"}], ids=["here", "elsewhere"])
def test_what_wandbs_own_commands_switch_off_is_off(
    variables: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "elsewhere").mkdir()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for command, mode in (
        ("disabled", "disabled"),
        ("enabled", "online"),
        ("offline", "offline"),
        ("online", "online"),
    ):
        wandb(command)
        assert resolve_mode("auto") == mode
    assert find_mode("auto") == ("online", "")


def test_where_the_mode_comes_from_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def line() -> str:
        mode, why = find_mode("auto")
        console = Console(file=io.StringIO(), width=200)
        print_tracking(console, Ledger(place / "runs"), mode, why, None, 0)
        return console.file.getvalue().splitlines()[0].removeprefix("W&B runs").strip()  # type: ignore[attr-defined]

    assert line() == "online"
    put(place, {OWN: DISABLED})
    assert line() == f"none: tracking is disabled, as {place / OWN} says"
    put(place, {"wandb/settings": OFFLINE})
    assert line() == f"offline in {place / 'runs/wandb'}, as wandb/settings says"
    put(place, {"wandb/settings": ONLINE})
    assert line() == "online, as wandb/settings says"
    monkeypatch.delenv("WANDB_API_KEY")
    assert line() == f"offline in {place / 'runs/wandb'}, as you are not logged in"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert line() == f"offline in {place / 'runs/wandb'}, as WANDB_MODE says"
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match="not logged in"):
        line()


@pytest.mark.parametrize(("variables", "files", "source"), [
    ({"WANDB_MODE": "disabled"}, {}, "WANDB_MODE says 'disabled'"),
    ({"WANDB_MODE": "dryrun"}, {}, "WANDB_MODE says 'dryrun'"),
    ({}, {"wandb/settings": OFFLINE}, "wandb/settings says 'offline'"),
])  # fmt: skip
def test_a_study_that_wants_online_does_not_overrule(
    variables: dict[str, str], files: dict[str, str], source: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_mode("online") == "online"
    put(place, files)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=source):
        resolve_mode("online")
    assert resolve_mode("offline") == "offline"


def test_sync_uploads_what_is_offline_and_nothing_where_wandb_is_disabled(place: Path, server: Server) -> None:
    commit(place / "runs", "k1")
    put(place, {"wandb/settings": OFFLINE})
    with Tracker(place / "runs", project="p", group="g", mode=resolve_mode("auto"), keys=["k1"]) as tracker:
        assert tracker.close(60) == 0
    assert server.num_requests + server.num_questions == 0
    put(place, {"wandb/settings": DISABLED})
    with pytest.raises(UserError, match="wandb/settings says 'disabled', so nothing is uploaded"):
        sync(place / "runs", print)
    assert server.num_requests + server.num_questions == 0
    put(place, {"wandb/settings": OFFLINE})
    assert sync(place / "runs", print) == 1
    assert {*server.runs} == {"k1"}


@pytest.mark.parametrize(
    "text", ["mode = offline\n", "[default]\nmode = a\nmode = b\n", "[default]\nmode = 5%\n", "\udcff"]
)
def test_a_settings_file_that_cannot_be_read_is_named(text: str, place: Path) -> None:
    (place / "wandb").mkdir()
    (place / "wandb/settings").write_bytes(text.encode(errors="surrogateescape"))
    for ask in (lambda: resolve_mode("auto"), lambda: resolve_mode("online"), client_mode):
        with pytest.raises(
            UserError, match=r"^wandb/settings: cannot be read as W&B's settings \(.+\); mend"
        ) as raised:
            ask()
        assert "\n" not in str(raised.value)
    assert resolve_mode("offline") == "offline"


def test_a_settings_file_is_not_read_where_nothing_is_uploaded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, {"wandb/settings": "mode"})
    monkeypatch.setenv("WANDB_MODE", "offline")
    commit(place / "runs", "k1")
    assert log_run(place / "runs", "k1", project="p", group="g", mode=resolve_mode("auto")) is None


def test_a_mode_that_is_wandbs_but_not_ours_gets_no_guess(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, {"wandb/settings": "[default]\nmode = shared\n"})
    with pytest.raises(UserError) as raised:
        resolve_mode("auto")
    hint = "mode: 'shared' is W&B's, but not supported here; use online, offline or disabled"
    assert str(raised.value) == f"wandb/settings: {hint}"
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(UserError, match=f"^environment: WANDB_MODE: {hint.removeprefix('mode: ')}"):
        resolve_mode("auto")


NOISE = {
    "WANDB_CONSOLE": "wrap", "WANDB_DISABLE_CODE": "false", "WANDB_DISABLE_GIT": "false", "WANDB_HOST": "host-of-mine",
    "WANDB_JOB_TYPE": "their-job", "WANDB_NAME": "their-name", "WANDB_NOTES": "their-notes",
    "WANDB_PROJECT": "their-project", "WANDB_RESUME": "must", "WANDB_RUN_GROUP": "their-group",
    "WANDB_RUN_ID": "their-id", "WANDB_SAVE_CODE": "true", "WANDB_SERVICE": "3-1-tcp-localhost-1",
    "WANDB_SILENT": "false", "WANDB_TAGS": "their-tag", "WANDB_USER_EMAIL": "them@their.org", "WANDB_USERNAME": "them",
}  # fmt: skip


def test_settings_files_say_where_to_and_as_whom_and_no_more(
    place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that only the working directory's file names, a login relative to it, and a team of the user's file."""
    commit(place / "runs", "k1")
    noise = "".join(
        f"{name.removeprefix('WANDB_').lower()} = their-thing\n" for name in ("WANDB_PROJECT", "WANDB_RUN_ID")
    )
    put(place, {"wandb/settings": f"[default]\nbase_url = {server.url}\n{noise}run_notes = their-notes\n"})
    put(place, {OWN: "[default]\nentity = our-team\nbase_url = http://127.0.0.1:9\n"})
    put(place, {"netrc": f"machine {server.url.removeprefix('http://')} login user password {API_KEY}\n"})
    for name in ("WANDB_BASE_URL", "WANDB_API_KEY"):
        monkeypatch.delenv(name)
    for name, value in {**NOISE, "NETRC": "netrc"}.items():
        monkeypatch.setenv(name, value)
    assert resolve_mode("auto") == "online"
    with Tracker(place / "runs", project="p", group="g", mode="online", keys=["k1"]) as tracker:
        assert tracker.close(60) == 0
    assert tracker.problem is None
    run: dict[str, Any] = server.runs["k1"]
    assert {*server.runs} == {"k1"}
    assert (run["entity"], run["project"], run["groupName"], run["jobType"]) == ("our-team", "p", "g", "final")
    assert run["displayName"] == "stn_affine@lenet+affine at R s03"
    assert run["exit_code"] == 0
    offline = Offline(place / "runs", "k1")
    assert not {"host", "git", "notes", "settings"} & {*offline.run}
    everything = json.dumps(server.runs, default=repr) + json.dumps(offline.records)
    for theirs in ("their-", "host-of-mine", "them", str(place)):
        assert theirs not in everything


def test_what_an_upload_is_told_of_the_environment(place: Path) -> None:
    """The variable counts before the file; one login only; files of the environment are found from another folder."""
    key, token, url = f"api_key = {API_KEY}", "identity_token_file = t", "base_url = https://of.file"
    put(place, {"wandb/settings": f"[default]\n{key}\n{token}\n{url}\nmode = offline\nhttps_proxy = socks5://a:1\n"})
    account = {"WANDB_BASE_URL": "https://of.file", "WANDB_HTTPS_PROXY": "socks5://a:1"}
    assert upload_environment({}) == {**account, "WANDB_API_KEY": API_KEY}
    given = {
        "WANDB_BASE_URL": "https://of.env",
        "WANDB_IDENTITY_TOKEN_FILE": "token",
        "SSL_CERT_FILE": "~/ca",
        "A": "b",
    }
    assert upload_environment({**given, **NOISE}) == {
        **account, "WANDB_BASE_URL": "https://of.env", "WANDB_IDENTITY_TOKEN_FILE": str(place / "token"),
        "SSL_CERT_FILE": str(place / "home/ca"), "A": "b",
    }  # fmt: skip


def test_a_report_goes_to_the_team_that_the_runs_go_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, {"wandb/settings": "[default]\nentity = our-team\n"})
    monkeypatch.setattr(report, "save", lambda shown, saved: (shown.entity, saved.entity))
    shown = report.Shown("study", "p", "", "task", ("answer",), (), (), frozenset())
    assert save(Ledger(place / "runs"), shown, "") == ("our-team", "our-team")


def test_without_a_home_is_without_a_login(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = "import pwd\ndef unknown(uid): raise KeyError('uid not found')\npwd.getpwuid = unknown\n"
    (place / "sitecustomize.py").write_text(unknown)  # for the tracker's process
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(RuntimeError):
        Path.home()
    assert resolve_mode("auto") == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    assert find_mode("auto") == ("offline", "as you are not logged in")
    commit(place / "runs", "k1")
    assert log_run(place / "runs", "k1", project="p", group="g", mode="offline") is None
    monkeypatch.setenv("WANDB_CONFIG_DIR", "~/conf")
    assert resolve_mode("auto") == "offline"


def test_the_locale_has_no_say(place: Path, server: Server) -> None:
    """Class names reach the ledger as UTF-8, and W&B's files and server from there, whatever the terminal can print."""
    ledger = place / "läufe"
    commit(ledger, "k1")
    file = ledger / "runs/k1/run.json"
    run = json.loads(file.read_text())
    run["task"] |= {"label": "größte 花", "classes": ["花", "鸟", "owl"]}
    file.write_text(json.dumps(run, ensure_ascii=False), encoding="utf-8")
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    program = """
from pathlib import Path
from experiments.tracking.tracker import sync
from tests.support.wandb_runs import log_run
from experiments.tracking.report import logged_names
(ledger,) = Path().glob("l*ufe")
print(log_run(ledger, "k1", project="p", group="g", mode="online"), "class_accuracy" in logged_names(ledger, ["k1"]))"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | locale, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None True\n", "")
    assert server.runs["k1"]["tags"][0] == "größte 花"
    table = json.loads(server.runs["k1"]["files"][server.runs["k1"]["summary"]["class_accuracy"]["path"]])
    assert [row[0] for row in table["data"]] == ["花", "鸟", "owl"]


def test_each_policy_of_several_has_its_tag_and_its_place_in_the_configuration() -> None:
    policy = {"flip_crop.padding_px": 2.0, "affine.max_deg": 5.0, "affine.max_shift": 0.1}
    variant = "cnn@lenet:width=2+flip_crop+affine:max_scale=1.5"
    config = {"variant": variant, "pose": "upright", "policy": policy}
    task = {"name": "folder", "label": "Pets", "content_hash": "ab", "classes": ["cat", "dog"]}
    run = {
        "key": "k",
        "status": "completed",
        "config": config | {"protocol": {"train_images": 5000, "epochs": 3}},
        "task": task,
        "protocol_hash": "1a2b3c4d",
    }
    assert logged_values.tags(run, []) == (
        "Pets",
        "cnn",
        "pose upright",
        "policy flip_crop",
        "policy affine",
        "completed",
    )
    found = logged_values.config(run, {})
    assert found["rung"] == "5,000 x 3"
    assert found["names"] == {"model": "cnn", "backbone": "lenet", "policy": "flip_crop+affine"}
    assert found["policy"] == {"flip_crop": {"padding_px": 2.0}, "affine": {"max_deg": 5.0, "max_shift": 0.1}}
