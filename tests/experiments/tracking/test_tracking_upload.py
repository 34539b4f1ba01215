"""Uploads: when a server counts as away, how long a slow line may take, and what proves that a run has arrived."""

import contextlib
import json
import math
import ssl
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, cast

import pytest

from experiments.tracking.tracker import SLOWEST_LINE, Tracker, slow_s
from experiments.tracking.upload import NO_LOG, Server, Upload
from ledger.markers import Marker, is_uploaded, not_uploaded, read_marker, write_marker
from tests.support.project import ROOT
from tests.support.synthetic_ledger import write_arm, write_study
from tests.support.wandb_runs import commit

BROKEN = urllib.error.HTTPError("", 502, "", Message(), None)
RESET = urllib.error.URLError(ConnectionResetError(104, "Connection reset by peer"))


class Answers:
    """In place of urllib's opener: what each question meets, the last one again and again; None: it is answered."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers, self.timeouts_s = list(answers), list[float]()

    def open(self, request: object, timeout: float) -> contextlib.AbstractContextManager[None]:
        self.timeouts_s.append(timeout)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer:
            raise answer
        return contextlib.nullcontext()


def make_server(patience_s: float, *answers: Exception | None) -> tuple[Server, Answers, list[float]]:
    """The server, its opener, and the patience, which may be changed."""
    patience, opener = [patience_s], Answers(*answers)
    server = Server("http://127.0.0.1:9", {}, lambda: patience[0])
    server._opener = cast(Any, opener)
    return server, opener, patience


@pytest.mark.parametrize("fault", [BROKEN, RESET, TimeoutError()], ids=["502", "reset", "late"])
def test_one_bad_answer_is_asked_again(fault: Exception) -> None:
    server, opener, _ = make_server(2.5, fault, None)
    assert server.answers()
    assert server.trouble == ""
    assert len(opener.timeouts_s) == 2


def test_a_server_that_stays_broken_is_away_when_the_patience_is_over() -> None:
    server, opener, _ = make_server(0.7, BROKEN)
    started = time.monotonic()
    assert not server.answers()
    assert time.monotonic() - started >= 0.7
    assert server.trouble == "the server answers with HTTP 502"
    assert len(opener.timeouts_s) == 2


@pytest.mark.parametrize(
    "fault", [ssl.SSLCertVerificationError("self-signed"), ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")]
)
def test_whatever_goes_wrong_in_tls_is_an_answer(fault: Exception) -> None:
    assert make_server(0.3, urllib.error.URLError(fault))[0].answers()


def test_questions_are_rare_and_patient_where_nobody_hurries() -> None:
    server, opener, patience = make_server(15.0, None)
    assert server.answers()
    until = time.monotonic() + 0.7
    while time.monotonic() < until:
        assert not server.is_silent()
        time.sleep(0.02)
    assert opener.timeouts_s == [15.0]
    patience[0] = 0.6  # somebody hurries from now on; that it was not asked for longer is not the server's silence
    assert not server.is_silent()
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert not server.is_silent()
        time.sleep(0.02)
    assert opener.timeouts_s[1:] in ([0.6], [0.6, 0.6])


class Healthy:
    """A server that answers."""

    trouble = ""

    def answers(self) -> bool:
        return True

    def is_silent(self) -> bool:
        return False


def upload_one(tmp_path: Path, shell: str, *, stall_s: float = 60.0, slow_s: float = 0.0) -> tuple[str, bool]:
    """Upload a run with a shell's lines, which get its folder, as W&B's client. What was said, and if it arrived."""
    folder, done = tmp_path / "wandb" / "offline-run-1-k1", list[Path]()
    folder.mkdir(parents=True)
    scratch = tmp_path / "scratch"
    command = ["/bin/sh", "-c", f'log="$WANDB_DIR"/wandb/logs/debug-sync.1.log; {shell}', "sh"]
    upload = Upload(command, {"PATH": "/usr/bin:/bin"}, scratch, cast(Server, Healthy()), stall_s)
    said = upload.run([folder], done.append, slow_s=slow_s)
    assert not upload.is_away
    return said, bool(done)


SYNCED = '; touch "$1"/run-k1.wandb.synced'


def told(**entry: Any) -> str:
    return f"echo '{json.dumps(entry)}' >> \"$log\""


GOOD = told(level="INFO", msg="done", sync_path="wandb/offline-run-1-k1/run-k1.wandb")


@pytest.mark.parametrize(
    "shell",
    [
        ":",
        "echo no JSON >> $log",
        told(level="INFO", msg="done"),
        told(level="INFO", msg="done", path="wandb/offline-run-1-k1/run-k1.wandb"),
        told(level="INFO", msg="done", sync_path="wandb/offline-run-1-k2/run-k2.wandb"),
        told(msg="done", sync_path="wandb/offline-run-1-k1/run-k1.wandb"),
        f"{GOOD}; {told(level='error', msg='no', sync_path='wandb/offline-run-1-k1/run-k1.wandb')}",
        f"{GOOD}; {told(level='ERROR', msg='no', sync_path='wandb/offline-run-1-k1/run-k1.wandb')}",
        f"log=${{log%/*}}/upload.log; {GOOD}",
    ],
)
def test_what_the_log_does_not_show_has_not_arrived(tmp_path: Path, shell: str) -> None:
    said, has_arrived = upload_one(tmp_path, shell + SYNCED)
    assert not has_arrived
    assert said


def test_a_log_that_is_missing_is_named(tmp_path: Path) -> None:
    assert upload_one(tmp_path, ":" + SYNCED) == (NO_LOG, False)


def test_what_the_log_shows_has_arrived(tmp_path: Path) -> None:
    mended = told(level="WARN", msg="retrying", sync_path="wandb/offline-run-1-k1/run-k1.wandb")
    assert upload_one(tmp_path, f"{GOOD}; {mended}; printf '{{\"level\"' >> $log" + SYNCED) == ("", True)


def test_a_large_run_may_take_longer(tmp_path: Path) -> None:
    commit(tmp_path, "k1")
    with open(tmp_path / "runs" / "k1" / "weights.safetensors", "wb") as weights:
        weights.truncate(44_000_000)
    assert 2200 < slow_s(tmp_path, ["k1", "not-there"]) == pytest.approx(44e6 / SLOWEST_LINE, rel=0.01)
    slow = f"sleep 0.6; {GOOD}{SYNCED}"
    assert upload_one(tmp_path / "patient", slow, stall_s=0.1, slow_s=60.0) == ("", True)
    said, has_arrived = upload_one(tmp_path / "impatient", slow, stall_s=0.1)
    assert (said, has_arrived) == ("no run finished within 0 s", False)


def test_a_command_waits_for_a_large_run(tmp_path: Path) -> None:
    commit(tmp_path, "k1")
    with open(tmp_path / "runs" / "k1" / "weights.safetensors", "wb") as weights:
        weights.truncate(44_000_000)
    for mode, waits in (("online", True), ("offline", False)):
        tracker = Tracker(tmp_path, project="p", group="g", mode=cast(Any, mode))
        tracker._given["k1"] = None
        with subprocess.Popen(["sleep", "0.6"]) as process:
            tracker._wait(process, 0.1, math.inf, None)
            assert (process.poll() is not None) == waits


PROGRAM = """
import json, sys
from experiments.tracking import replayer
from ledger.markers import write_marker

def replayed(job, *_):
    marker = dict(project="p", group="g", tags=[], folder=f"offline-run-1-{job['key']}", uploaded=False)
    write_marker(replayer.Path(), job["key"], marker)
    return marker

class Upload:
    is_away, is_refused, there = True, False, set()
    def __init__(self, *_): self.tries = [bool(int(arrives)) for arrives in sys.argv[2]]
    def stop(self): pass
    def run(self, folders, on_done, **_):
        self.is_away = not self.tries.pop(0)
        for folder in [] if self.is_away else list(folders):
            on_done(folder)
        return "nobody there" if self.is_away else ""

def find(*_):
    if not sys.argv[2]:
        raise AttributeError("'Settings' object has no attribute 'base_url'")

replayer.written, replayer.Upload, replayer.find_server = replayed, Upload, find
replayer.serve(json.loads(sys.argv[1]))
"""


def serve(ledger: Path, tries: str, patience_s: float = 0.2, hurry_s: float = 0.2) -> tuple[str, float]:
    """Have two runs uploaded; tries: 1 where an upload works, 0 where nobody is there. What was reported, seconds."""
    order = {"ledger": str(ledger), "online": True, "tracker": "wandb", "parent": 0, "stall_s": 60.0}
    jobs: list[Any] = [{"key": key, "project": "p", "group": "g", "tags": [], "again": True} for key in ("k1", "k2")]
    lines = "".join(json.dumps(job) + "\n" for job in [*jobs, None])
    limits = {"patience_s": patience_s, "hurry_s": hurry_s}
    command = [sys.executable, "-c", PROGRAM, json.dumps(order | limits), tries]
    started = time.monotonic()
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout, time.monotonic() - started


@pytest.fixture
def arrived(tmp_path: Path) -> Iterator[Any]:
    def keys() -> list[str]:
        return [key for key in ("k1", "k2") if is_uploaded(tmp_path, key)]

    return keys  # type: ignore[return-value]


def test_whoever_waits_for_an_upload_has_it_tried_again(tmp_path: Path, arrived: Any) -> None:
    assert serve(tmp_path, "0101")[0] == ""  # away, back, away in the middle, and back
    assert arrived() == ["k1", "k2"]


def test_an_upload_is_given_up_when_nobody_came_back(tmp_path: Path, arrived: Any) -> None:
    assert "nobody there" in serve(tmp_path, "00")[0]  # and a third try would fail
    assert arrived() == []


def test_a_command_that_is_done_is_not_held_up_by_another_try(tmp_path: Path, arrived: Any) -> None:
    said, took_s = serve(tmp_path, "0", patience_s=300.0)
    assert "nobody there" in said
    assert took_s < 30
    assert arrived() == []


def test_settings_that_cannot_be_read_do_not_end_the_offline_files(tmp_path: Path) -> None:
    said, _ = serve(tmp_path, "")
    assert "W&B's settings cannot be read: AttributeError" in said
    assert read_marker(tmp_path, "k1") and read_marker(tmp_path, "k2")


@pytest.mark.parametrize("tracker", ["wandb", "none"])
def test_a_study_that_is_shown_elsewhere_is_not_uploaded(tmp_path: Path, tracker: str) -> None:
    """Nor is what an earlier sweep, when its tracker was W&B, has logged of it offline."""
    arm = write_arm(tmp_path, "cnn", "cnn", [0.5, 0.52])
    write_study(tmp_path, [arm], tracker=tracker, wandb_project="p")
    keys = [*arm["trials"], *arm["finals"]]
    (tmp_path / "wandb/logged").mkdir(parents=True)
    write_marker(tmp_path, keys[0], Marker(project="p", group="g", tags=[], folder="offline-run-1", uploaded=False))
    assert {job["key"] for job in not_uploaded(tmp_path)} == (set(keys) if tracker == "wandb" else set())
