"""trackio as a tracker: each run there once and whole, whatever is killed or broken, and nothing sent anywhere.

What is in its database is read with SQLite. Tests of the library itself are skipped without it: CI has a newer Pillow
than it allows.
"""

import importlib.util
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experiments.terminal.cli import main
from experiments.tracking.dashboard import dashboard
from experiments.tracking.tracker import Tracker
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.markers import not_uploaded, read_marker
from tests.support.command_line import contents, family, wait_for, wait_until_gone
from tests.support.project import ROOT
from tests.support.tiny_study import NUM_RUNS, STUDY, write_sweep
from tests.support.wandb_runs import commit

WITH_TRACKIO = pytest.mark.skipif(
    importlib.util.find_spec("trackio") is None, reason="needs trackio: pip install 'stn-bench[trackio]'"
)
KEY, DIVERGED, OTHER = "0123456789abcdef", "1123456789abcdef", "2123456789abcdef"
NAME = "stn_affine@lenet+affine at R s03"


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that variables of the user's name as trackio's, with a login; nobody may ever come."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        told = {"TRACKIO_SERVER_URL": f"{url}/?write_token=t", "TRACKIO_SPACE_ID": "somebody/space", "HF_ENDPOINT": url}
        for name, value in (told | {"HF_TOKEN": "hf_" + "a" * 34, "TRACKIO_DIR": "/nonexistent"}).items():
            monkeypatch.setenv(name, value)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


def tracker_of(ledger: Path, *keys: str) -> Tracker:
    return Tracker(
        ledger, project="proj", group="study-cpu", mode="offline", tags=["cpu"], keys=keys, tracker="trackio"
    )


def log(ledger: Path, *keys: str) -> str | None:
    """What went wrong, or None."""
    with tracker_of(ledger, *keys) as tracker:
        missing = tracker.close(60)
    assert bool(missing) == bool(tracker.problem)
    return tracker.problem


def rows(ledger: Path, key: str) -> list[dict[str, Any]]:
    """What the database has of a run, in order."""
    try:
        with closing(sqlite3.connect(f"file:{ledger}/trackio/proj.db?mode=ro", uri=True)) as database:
            query = "select step, metrics from metrics where run_id = ? order by id"
            found = database.execute(query, (key,)).fetchall()
    except sqlite3.OperationalError:  # nothing has been written
        return []
    assert [step for step, _ in found] == [*range(len(found))]
    return [json.loads(metrics) for _, metrics in found]


def check_whole(ledger: Path, key: str = KEY) -> None:
    found = rows(ledger, key)
    assert [(row.get("epoch"), row.get("val/accuracy")) for row in found[:3]] == [(1, 0.35), (2, 0.45), (3, 0.55)]
    assert (found[3]["epoch"], found[3]["test/accuracy"], found[3]["train_seconds"]) == (3, 0.54, 21.3)
    assert found[4] == {"rotation/deg": -90.0, "rotation/accuracy": 0.25, "rotation/agreement": 0.5}
    assert len(found) == 9


@WITH_TRACKIO
def test_each_run_is_there_once_and_whole(tmp_path: Path, listener: socket.socket) -> None:
    commit(tmp_path, KEY)
    commit(tmp_path, OTHER, seed=4)
    commit(tmp_path, DIVERGED, stage="trial", status="diverged", epochs=0)
    assert log(tmp_path, KEY, OTHER, DIVERGED) is None
    for _ in range(2):
        for key in (KEY, OTHER):
            check_whole(tmp_path, key)
        costs = {"train_seconds": 21.3, "seconds": 24.0, "images_per_s": 1410.0, "peak_memory_mib": 512.0}
        assert rows(tmp_path, DIVERGED) == [{"epoch": 0, "epochs": 0, **costs}]
        (tmp_path / "trackio/logged" / KEY).unlink()  # as if it had been killed just before it was done
        assert log(tmp_path, KEY, OTHER, DIVERGED) is None
    with closing(sqlite3.connect(tmp_path / "trackio/proj.db")) as database:
        found = database.execute("select run_id, run_name, config from configs order by run_id").fetchall()
    assert [key for key, _, _ in found] == [KEY, DIVERGED, OTHER]
    config = json.loads(found[0][2])
    assert (found[0][1], config["_Group"], config["stage"], config["status"]) == (
        NAME,
        "study-cpu",
        "final",
        "completed",
    )
    assert config["optim"] == {"lr": 0.1, "weight_decay": 0.0005}
    assert config["tags"] == ["Pets (JPEG)", "stn_affine", "pose R", "policy affine", "completed", "cpu"]
    assert not (tmp_path / "wandb").exists() and not list(Path("/nonexistent").glob("*"))
    marker = read_marker(tmp_path, KEY, "trackio")
    assert marker and (marker["folder"], marker["uploaded"]) == ("proj.db", False)


@WITH_TRACKIO
@pytest.mark.long
def test_rows_appear_while_it_trains_and_a_kill_doubles_none(tmp_path: Path, listener: socket.socket) -> None:
    commit(tmp_path / "finished", KEY)
    record, history = (Ledger(tmp_path / "finished").read(KEY, name) for name in ("run.json", "history.json"))
    begun = {name: record[name] for name in ("key", "config", "task", "protocol_hash")}
    ledger = Ledger(tmp_path / "runs")
    ledger.mark_running(KEY, {"epoch": 2, "history": history[:2]})
    program = f"""
import json, sys, time
from pathlib import Path
from experiments.tracking.tracker import Tracker
tracker = Tracker(Path({str(ledger.root)!r}), project="proj", group="g", mode="offline", tracker="trackio")
tracker.follow(json.load(sys.stdin))
time.sleep(600)"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True, cwd=ROOT) as running:
        assert running.stdin
        json.dump(begun, running.stdin)
        running.stdin.close()
        wait_for(lambda: len(rows(ledger.root, KEY)) == 2)
        processes = family(running.pid)
        running.kill()
    wait_until_gone(processes)
    ledger.mark_running(KEY, {"epoch": 1, "history": history[:1]})  # from its last checkpoint
    with tracker_of(ledger.root) as tracker:
        tracker.follow(begun)
        wait_for(lambda: len(rows(ledger.root, KEY)) == 1)
        ledger.mark_running(KEY, {"epoch": 3, "history": history})
        wait_for(lambda: len(rows(ledger.root, KEY)) == 3)
        assert "trackio" not in sys.modules, "a process that trains does without"
        commit(ledger.root, KEY)
        ledger.forget_running(KEY)
        tracker.log(KEY)
        assert tracker.close(60) == 0
    assert tracker.problem is None
    check_whole(ledger.root)


@WITH_TRACKIO
def test_a_damaged_database_is_reported_and_costs_nothing_else(tmp_path: Path) -> None:
    commit(tmp_path, KEY)
    before = contents(tmp_path / "runs")
    (tmp_path / "trackio").mkdir()
    (tmp_path / "trackio/proj.db").write_bytes(b"no database" * 1000)
    assert "file is not a database" in (log(tmp_path, KEY) or "")
    assert contents(tmp_path / "runs") == before and read_marker(tmp_path, KEY, "trackio") is None
    (tmp_path / "trackio/proj.db").unlink()
    assert log(tmp_path, KEY) is None
    check_whole(tmp_path)


@WITH_TRACKIO
@pytest.mark.long
def test_a_study_goes_where_its_file_says_and_its_runs_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "--budget=smoke", "--set=tracker=none"]) == 0
    assert "none: tracking is disabled, as the study file says" in capsys.readouterr().out
    made = contents(tmp_path / "runs/runs")
    assert not {"wandb", "trackio"} & {path.name for path in (tmp_path / "runs").iterdir()}
    assert main(["sweep", "--budget=smoke", "--set=tracker=trackio"]) == 0
    said = capsys.readouterr().out
    assert "offline in runs/trackio" in said and "in a browser" in said
    assert contents(tmp_path / "runs/runs") == made, "what shows runs has no part in their keys"
    with closing(sqlite3.connect(tmp_path / "runs/trackio/stn-bench.db")) as database:
        keys = [key for (key,) in database.execute("select distinct run_id from metrics")]
    assert sorted(keys) == sorted(path.name for path in (tmp_path / "runs/runs").iterdir()) and len(keys) == NUM_RUNS
    assert Ledger(tmp_path / "runs").read_study(STUDY)["tracker"] == "trackio"
    assert not_uploaded(tmp_path / "runs") == [], "`make sync` uploads nothing of it"
    assert main(["verify", "runs"]) == 0

    command = [sys.executable, "-u", "-m", "experiments", "dashboard"]
    places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": places, "BROWSER": "true"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as dashboard:
        try:
            assert dashboard.stdout
            launched = next(line for line in dashboard.stdout if "launched at" in line)
            (address,) = re.findall(r"http://127\.0\.0\.1:\d+", launched)
            headers = {"Content-Type": "application/json"}
            query = urllib.request.Request(f"{address}/api/get_runs_for_project", b'{"project": "stn-bench"}', headers)
            with urllib.request.urlopen(query, timeout=60) as answer:
                assert len(json.load(answer)["data"]) == NUM_RUNS
        finally:
            dashboard.kill()


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, tracker="trackio")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["sweep", "--budget=smoke"]) == 2
    said = capsys.readouterr().err
    assert said == "error: tracker: trackio is not installed; pip install 'stn-bench[trackio]'\n"
    assert not (tmp_path / "runs").exists()


def test_a_broken_library_costs_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken/trackio"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise AttributeError('of another version')")
    places = [str(broken.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    commit(tmp_path / "runs", KEY)
    before = contents(tmp_path / "runs/runs")
    started = time.monotonic()
    assert log(tmp_path / "runs", KEY) == "tracking stopped: AttributeError: of another version"
    assert time.monotonic() - started < 40
    assert contents(tmp_path / "runs/runs") == before


def test_there_is_nothing_to_show_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r": no runs to show yet; .+"):
        dashboard(tmp_path)
