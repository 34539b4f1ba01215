"""Runs in W&B while they train: rows arrive, and whatever is killed or away, each ends up there once, whole."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.tracking import live
from experiments.tracking.settings import Mode
from experiments.tracking.tracker import Tracker, sync
from ledger.ledger import Ledger
from ledger.markers import Following, read_marker
from tests.support.command_line import family, wait_for, wait_until_gone
from tests.support.project import ROOT
from tests.support.wandb_runs import Offline, check_delivered_once, commit, inspect
from tests.support.wandb_server import Fault, Server

KEY = "0123456789abcdef"
LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux: only there are processes ended with their parent"
)


def begun(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is known of the run of `commit` before it begins, and the rows that it will have."""
    commit(folder, KEY)
    files = Ledger(folder, read_only=True)
    record = files.read(KEY)
    return {name: record[name] for name in ("key", "config", "task", "protocol_hash")}, files.read(KEY, "history.json")


class Training:
    """A run in progress, of this process, whose epochs end when they are told to."""

    def __init__(self, tmp_path: Path) -> None:
        self.record, self.rows = begun(tmp_path / "finished")
        self.ledger = Ledger(tmp_path / "runs")
        self.mark(0)

    def mark(self, epoch: int) -> None:
        self.ledger.mark_running(KEY, {"epoch": epoch, "history": self.rows[:epoch]})

    def commit(self) -> None:
        commit(self.ledger.root, KEY)
        self.ledger.forget_running(KEY)

    def tracker(self, mode: Mode) -> Tracker:
        tracker = Tracker(self.ledger.root, project="proj", group="g", mode=mode, tags=["cpu"])
        tracker.follow(self.record)
        return tracker


def num_online(server: Server) -> int:
    return len(server.runs.get(KEY, {"history": []})["history"])


def num_offline(training: Training) -> int:
    """Rows whose accuracy can be read in W&B's file; W&B's own reader takes a second."""
    files = training.ledger.root.glob(f"wandb/offline-run-*-run-*-{KEY}/*.wandb")
    content = b"".join(file.read_bytes() for file in files)
    return sum(str(row["val_accuracy"]).encode() in content for row in training.rows)


def show(training: Training, num_rows: Callable[[], int], epoch: int) -> None:
    """Let an epoch end, and wait until it is seen."""
    training.mark(epoch)
    wait_for(lambda: num_rows() >= epoch)
    assert num_rows() == epoch


def live_process(tracker: Tracker) -> int:
    """The process that shows runs."""
    assert tracker._process
    for pid in family(tracker._process.pid):
        if b"experiments.tracking.live" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("no process shows runs")


def check_offline(ledger: Path) -> None:
    """The run is there once, whole, and nothing of what was shown before."""
    inspect.cache_clear()
    run = Offline(ledger, KEY)
    assert len(run.history) == 9
    assert run.exit_code == 0
    assert run.summary["test/accuracy"] == 0.54
    marker = read_marker(ledger, KEY)
    assert marker and marker["folder"] == run.folder.name
    assert len(list((ledger / "wandb").glob("*run-*"))) == 1


@pytest.mark.long
def test_rows_are_in_offline_files_while_it_trains(tmp_path: Path) -> None:
    training, was_there = Training(tmp_path), "wandb" in sys.modules
    ledger = training.ledger.root
    with training.tracker("offline") as tracker:
        for epoch in (1, 2, 3):
            show(training, lambda: num_offline(training), epoch)
        run = Offline(ledger, KEY)
        assert [(row["epoch"], row["val/accuracy"]) for row in run.history] == [(1, 0.35), (2, 0.45), (3, 0.55)]
        assert run.run["display_name"] == "stn_affine@lenet+affine at R s03"
        assert run.run["tags"] == ["Pets (JPEG)", "stn_affine", "pose R", "policy affine", "cpu"]
        assert run.config["optim"] == {"lr": 0.1, "weight_decay": 0.0005}
        assert run.all("exit") == [] and read_marker(ledger, KEY) is None
        for file in run.folder.rglob("*"):
            assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes(), file
        training.commit()
        tracker.log(KEY)
        assert tracker.close(60) == 0
    assert tracker.problem is None
    assert ("wandb" in sys.modules) == was_there, "a process that trains does without"
    check_offline(ledger)


@pytest.mark.long
def test_rows_are_on_the_server_while_it_trains(tmp_path: Path, server: Server) -> None:
    training = Training(tmp_path)
    with training.tracker("online") as tracker:
        for epoch in (1, 2):
            show(training, lambda: num_online(server), epoch)
        run = server.runs[KEY]
        assert [(row["epoch"], row["val/accuracy"]) for row in run["history"]] == [(1, 0.35), (2, 0.45)]
        assert (run["project"], run["groupName"], run["exit_code"]) == ("proj", "g", None)
        assert "test/accuracy" not in run["summary"]
        assert not list(training.ledger.root.glob("wandb/*run-*"))
        training.mark(3)
        training.commit()
        tracker.log(KEY)
        wait_for(lambda: run["exit_code"] is not None)
        assert tracker.close(60) == 0
    assert tracker.problem is None
    check_delivered_once(server, training.ledger.root)
    assert run["sent"] == len(run["history"]) == 9
    assert run["tags"] == ["Pets (JPEG)", "stn_affine", "pose R", "policy affine", "completed", "cpu"]
    assert run["config"]["device_name"] == "Abacus 9"
    check_offline(training.ledger.root)
    for secret in (str(tmp_path), str(ROOT), sys.executable, os.environ["WANDB_API_KEY"]):
        assert secret not in json.dumps(server.runs, default=repr)
    assert sync(training.ledger.root, print) == 0


@pytest.mark.long
@LINUX
def test_what_shows_runs_may_be_killed_or_hang(tmp_path: Path, server: Server) -> None:
    training = Training(tmp_path)
    with training.tracker("online") as tracker:
        show(training, lambda: num_online(server), 1)
        os.kill(live_process(tracker), signal.SIGKILL)
        show(training, lambda: num_online(server), 2)  # by another one
        os.kill(live_process(tracker), signal.SIGSTOP)
        training.commit()
        tracker.log(KEY)
        wait_for(lambda: server.runs[KEY]["exit_code"] is not None)
        assert tracker.close(60) == 0
    assert tracker.problem is None
    check_delivered_once(server, training.ledger.root)
    assert server.runs[KEY]["sent"] == 9


@pytest.mark.long
@LINUX
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_program_killed_between_rows_logs_none_twice(tmp_path: Path, server: Server, mode: Mode) -> None:
    training = Training(tmp_path)
    ledger = training.ledger.root
    num_rows = (lambda: num_online(server)) if mode == "online" else (lambda: num_offline(training))
    program = f"""
import json, sys, time
from pathlib import Path
from experiments.tracking.tracker import Tracker
tracker = Tracker(Path({str(ledger)!r}), project="proj", group="g", mode={mode!r}, tags=["cpu"])
tracker.follow(json.load(sys.stdin))
print("following", flush=True)
time.sleep(600)"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as running:
        assert running.stdin and running.stdout
        json.dump(training.record, running.stdin)
        running.stdin.close()
        running.stdout.readline()
        show(training, num_rows, 2)
        processes = family(running.pid)
        assert len(processes) >= 4  # the program, the tracker, what shows runs, and W&B's service
        running.kill()
    wait_until_gone(processes)
    training.mark(1)  # from its last checkpoint
    with training.tracker(mode) as tracker:
        show(training, num_rows, 3)
        training.commit()
        tracker.log(KEY)
        assert tracker.close(60) == 0
    check_offline(ledger)
    if mode == "online":
        check_delivered_once(server, ledger)
        assert server.runs[KEY]["sent"] == 9


@pytest.mark.long
@pytest.mark.parametrize("fault", ["hole", "500", "401", "garbage"])
def test_a_server_away_in_the_middle_costs_seconds(tmp_path: Path, server: Server, fault: Fault, whole: bool) -> None:
    if not whole and fault != "hole":
        pytest.skip("another fault; only with --whole")
    training = Training(tmp_path)
    with training.tracker("online") as tracker:
        show(training, lambda: num_online(server), 1)
        server.misbehave(fault)
        training.mark(3)
        time.sleep(5)
        training.commit()
        started_s = time.monotonic()
        tracker.log(KEY)
        assert tracker.close(60) == 1
        assert time.monotonic() - started_s < 40  # as without rows before
    assert read_marker(training.ledger.root, KEY)
    check_offline(training.ledger.root)
    server.misbehave(None)
    assert sync(training.ledger.root, print) == 1
    check_delivered_once(server, training.ledger.root)


def test_what_shows_runs_is_started_once_there_is_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def refuse(*arguments: object, **options: object) -> None:
        tries.append(arguments)
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(live, "RESTART_S", 0.01)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    taken = tmp_path / "live/open"
    taken.parent.mkdir()
    taken.touch()  # so no folder can be made there
    showing = live.Live({}, tmp_path, online=False)
    showing.follow(Following(key=KEY, project="", group="", tags=[], again=False, run={}))
    time.sleep(0.1)
    assert not tries
    taken.unlink()
    wait_for(lambda: len(tries) > 1)
    showing.stop()


@pytest.mark.long
def test_short_runs_are_replayed_only(tmp_path: Path, server: Server) -> None:
    training = Training(tmp_path)
    training.record["task"]["classes"] = ["more than the pipe holds"] * 10_000
    with training.tracker("online") as tracker:
        training.commit()
        tracker.log(KEY)
        assert tracker.close(60) == 0
    assert server.runs[KEY]["upserts"] <= 3
    check_delivered_once(server, training.ledger.root)
