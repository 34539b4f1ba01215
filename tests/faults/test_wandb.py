"""W&B away, silent, broken or refusing: a command ends as if it were offline, and every run arrives once, later."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.tracking.tracker import Tracker, sync
from ledger.errors import UserError
from ledger.markers import SINGLE_RUNS, is_uploaded, read_marker
from tests.support.command_line import family, wait_for, wait_until_gone
from tests.support.command_line import run as run_command
from tests.support.project import ROOT
from tests.support.tiny_study import NUM_RUNS, tables, write_sweep
from tests.support.wandb_runs import API_KEY, check_delivered_once, commit
from tests.support.wandb_server import Fault, Server

FAULTS: tuple[Fault, ...] = ("hole", "slow", "garbage", "hang up", "die", "500", "401", "403")
BAD_MARKERS = ("[]", "7", "null", '"uploaded"', '{"uploaded": true}', '{"project": "p", "gro', "", "[" * 100_000)


def check_only_truth(server: Server, ledger: Path) -> None:
    """No run is marked as uploaded that is not on the server, and no API key is in the ledger."""
    for folder in (ledger / "runs").iterdir():
        if is_uploaded(ledger, folder.name):
            run, history = server.runs[folder.name], json.loads((folder / "history.json").read_text())
            assert len([line for line in run["history"] if "train/loss" in line]) == len(history)
            assert run["exit_code"] is not None
            if (folder / "weights.safetensors").exists():
                assert server.artifacts[f"weights-{folder.name}"]["committed"]
    for file in ledger.rglob("*"):
        if file.is_file():
            assert API_KEY.encode() not in file.read_bytes(), file


def replay(ledger: Path, keys: list[str], mode: Any = "online") -> tuple[float, Tracker, int]:
    """Log runs as the end of a command does. Returns the seconds it took, the tracker and how many are missing."""
    started = time.monotonic()
    with Tracker(ledger, project="proj", group="g", mode=mode, keys=keys) as tracker:
        processes = family(tracker._process.pid) if tracker._process else set()
        missing = tracker.close(60)
    took = time.monotonic() - started
    wait_until_gone(processes)
    return took, tracker, missing


@pytest.mark.long
def test_silence_and_failure_are_made_up_for(tmp_path: Path, server: Server, whole: bool) -> None:
    keys = ("k1", "k2", "k3", "k4") if whole else ("k1", "k2")
    given, never_given = list(keys[: len(keys) // 2]), keys[len(keys) // 2 :]
    for key in keys:
        commit(tmp_path, key)
    server.misbehave("hole")
    _, tracker, missing = replay(tmp_path, given)
    assert missing == len(given)
    assert server.faulty_since
    assert time.monotonic() - server.faulty_since < 40  # 3 s, and not minutes, as by itself
    assert server.num_requests == 0
    assert tracker.problem is not None
    assert "the server does not answer" in tracker.problem

    server.misbehave("500", paths="/upload/artifact/")  # W&B's client calls such runs synced
    with pytest.raises(UserError, match=rf"HTTP 500 \(0 of {len(given)} runs uploaded\)") as raised:
        sync(tmp_path, print)
    assert "\n" not in str(raised.value)
    check_only_truth(server, tmp_path)
    if whole:
        server.misbehave("401")
        with pytest.raises(UserError, match=r"HTTP 401.*python -m wandb login"):
            sync(tmp_path, print)

    # The server has the history of those by now. W&B's file of one is damaged, and the markers of all the others, so
    # that nobody knows the project that they were on their way to.
    (file,) = (tmp_path / "wandb").glob("offline-run-*-k1/*.wandb")
    file.write_bytes(file.read_bytes()[:-300])
    assert len(server.runs["k1"]["lines"]) == 9
    for key, damaged in zip(keys[1:], BAD_MARKERS, strict=False):
        (tmp_path / "wandb" / "logged" / key).write_text(damaged)
    server.misbehave(None)
    assert sync(tmp_path, print) == len(keys)
    check_delivered_once(server, tmp_path)
    for key in never_given:
        assert (server.runs[key]["project"], server.runs[key]["groupName"]) == SINGLE_RUNS


@pytest.mark.parametrize("damaged", BAD_MARKERS)
def test_damaged_marker_is_none(tmp_path: Path, damaged: str) -> None:
    marker = tmp_path / "wandb" / "logged" / "k1"
    marker.parent.mkdir(parents=True)
    marker.write_text(damaged)
    assert read_marker(tmp_path, "k1") is None


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: only there are processes ended with their parent")
def test_nothing_is_left_of_an_upload_that_is_killed(tmp_path: Path, server: Server, whole: bool) -> None:
    victims = [("tracker", signal.SIGKILL)]
    if whole:
        victims += [("program", signal.SIGKILL), ("program", signal.SIGTERM), ("tracker", signal.SIGTERM)]
    program = f"""
import signal, sys, time
from pathlib import Path
from experiments.tracking.tracker import Tracker
signal.signal(signal.SIGTERM, signal.default_int_handler)
with Tracker(Path({str(tmp_path)!r}), project="proj", group="g", mode="online", hurry_s=60, keys=["k1"]) as tracker:
    print(tracker._process.pid, flush=True)
    tracker.close(60)"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for number, (victim, how) in enumerate(victims):
        if not number:
            commit(tmp_path, "k1")
        (tmp_path / "wandb" / "logged" / "k1").unlink(missing_ok=True)
        server.misbehave("hole", after=8)
        before = server.num_requests
        command = [sys.executable, "-c", program]
        running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert running.stdout
        tracker = int(running.stdout.readline())
        wait_for(lambda before=before: server.num_requests > before + 8)  # type: ignore[misc]
        processes = family(running.pid)
        assert len(processes) >= 4  # the program, the tracker, `wandb sync` and W&B's service
        os.kill(tracker if victim == "tracker" else running.pid, how)
        running.communicate(timeout=30)
        wait_until_gone(processes)
        marker = read_marker(tmp_path, "k1")
        assert marker is None or not marker["uploaded"]
    server.misbehave(None)
    assert sync(tmp_path, print) == 1
    check_delivered_once(server, tmp_path)


def test_slow_line_is_not_cut_off(tmp_path: Path, server: Server, whole: bool) -> None:
    if not whole:
        pytest.skip("waits for a slow upload; only with --whole")
    commit(tmp_path, "k1")
    (tmp_path / "runs" / "k1" / "weights.safetensors").write_bytes(os.urandom(50 * 2**20))
    server.seconds_per_mib = 0.5
    took_s, tracker, missing = replay(tmp_path, ["k1"])
    assert (missing, tracker.problem) == (0, None)
    assert took_s > 25
    check_delivered_once(server, tmp_path)


@contextlib.contextmanager
def nobody(fault: str) -> Iterator[str]:
    """An address where connections are refused, or where not even that is answered (`syn`)."""
    with socket.socket() as taken, contextlib.ExitStack() as waiting:
        taken.bind(("127.0.0.1", 0))
        if fault == "syn":  # the queue of connections is full, so that Linux drops who asks for one
            taken.listen(0)
            for _ in range(4):
                caller = waiting.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(taken.getsockname())
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_no_fault_at_any_stage_changes_a_sweep(
    server: Server,
    whole: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_figures: Callable[..., None],
    request: pytest.FixtureRequest,
) -> None:
    if not whole:
        pytest.skip("some forty sweeps; only with --whole")
    here: Path = request.getfixturevalue("here")  # draws images, so not before
    write_sweep(here)

    def sweep(name: str, mode: str) -> tuple[Path, float, "subprocess.CompletedProcess[str]"]:
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setenv("WANDB_MODE", mode)
        arguments = ("sweep", "--sweep", here / "sweep.yaml", "--budget", "smoke", "--runs", "runs")
        done = run_command(*arguments, "--reports", "reports", "--jobs", "2", cwd=folder)
        # Training goes on meanwhile: what W&B can cost a command is time after its last run.
        tail_s = time.time() - max(path.stat().st_mtime for path in folder.glob("runs/runs/*/run.json"))
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert API_KEY not in done.stdout + done.stderr
        return folder, tail_s, done

    offline = [sweep(f"offline{repetition}", "offline") for repetition in range(3)]
    expected, offline_s = tables(offline[0][0]), min(tail_s for _, tail_s, _ in offline)
    healthy, healthy_s, _ = sweep("healthy", "online")
    check_delivered_once(server, healthy / "runs")
    assert tables(healthy) == expected
    num_requests = server.num_requests
    stages = {"start": 0, "middle": num_requests // 2, "end": num_requests - 4}
    cases = [(fault, stage) for fault in FAULTS for stage in stages]
    added_s: dict[str, float] = {}
    for fault, stage in [("refused", "start"), ("syn", "start"), *cases]:
        server.forget()
        name = f"{fault} at the {stage}"
        with contextlib.ExitStack() as places:
            if fault in ("refused", "syn"):
                monkeypatch.setenv("WANDB_BASE_URL", places.enter_context(nobody(fault)))
            else:
                server.misbehave(fault, after=stages[stage])  # type: ignore[arg-type]
            folder, tail_s, done = sweep(name, "online")
        added_s[name] = tail_s - offline_s
        assert tables(folder) == expected, name
        check_only_truth(server, folder / "runs")
        if stage == "start":
            assert f"not logged yet: {NUM_RUNS}" in done.stdout, done.stdout
        server.restart()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        sync(folder / "runs", print)
        check_delivered_once(server, folder / "runs")
    worst = max(added_s, key=added_s.__getitem__)
    rounded = {name: round(seconds, 1) for name, seconds in added_s.items()}
    record_figures(
        "wandb_faults",
        sweeps=len(added_s),
        offline_s=round(offline_s, 1),
        healthy_s=round(healthy_s, 1),
        worst=worst,
        worst_added_s=rounded[worst],
        added_s=rounded,
    )
