"""Worker processes: they stay alive between runs, cost no more than their own run when they die, and end with us."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
import torch

from experiments.images.tasks import load_task
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.run import Job, Source
from experiments.sweep.executors import WorkerDied
from experiments.sweep.executors.local import LocalExecutor, default_num_workers, devices_of_workers
from ledger.config import Optim, Protocol, RunConfig, run_key
from ledger.errors import UserError
from ledger.files import process_is_alive
from ledger.ledger import Ledger
from tests.support.command_line import wait_for
from tests.support.project import ROOT

TINY = Protocol(train_images=64, val_images=32, test_images=50, epochs=1, batch_size=32, precision="fp32", device="cpu")
ENDLESS = 10_000
"""Epochs of a run that no test waits for."""
PATIENCE_S = 90.0
"""Longer than anything here takes on a machine that has other work."""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return Ledger(tmp_path_factory.mktemp("ledger"))


@pytest.fixture(scope="module")
def make_job(cache: Path, ledger: Ledger) -> Callable[..., Job]:
    """A job on sprites, with these changes to a run of one epoch."""
    source = Source(task="sprites", label="", image_px=32, cache=cache)
    task = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)

    def make(*, epochs: int = 1, **changes: object) -> Job:
        protocol = dataclasses.replace(TINY, epochs=epochs)
        run = dataclasses.replace(RunConfig(variant="cnn", stage="trial", protocol=protocol), **changes)  # type: ignore[arg-type]
        return Job(run=run, key=run_key(run, task.content_hash), source=source, ledger=ledger.root)

    return make


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    """One worker, for all tests that leave it as good as new."""
    with LocalExecutor("cpu", 1) as executor:
        yield executor
    wait_for(lambda: not pids())


def pids() -> set[int]:
    """Of the worker processes of this process."""
    return {process.pid for process in multiprocessing.active_children() if process.pid}


def pid_of_run(ledger: Ledger, key: str) -> int:
    """Of the worker that makes the run, when it has finished an epoch."""
    wait_for(lambda: ledger.running().get(key, {}).get("epoch", 0) >= 1)
    return int(ledger.running()[key]["pid"])


def is_deaf_to_ctrl_c(pid: int) -> bool:
    """Whether the process has blocked or ignores SIGINT, which a terminal sends to it as well as to us."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = (int(status.split(f"{name}:")[1].split()[0], 16) for name in ("SigBlk", "SigIgn"))
    return any(mask >> (signal.SIGINT - 1) & 1 for mask in masks)


@pytest.mark.long
def test_jobs_end_in_the_ledger_made_by_the_same_worker(
    executor: LocalExecutor, make_job: Callable[..., Job], ledger: Ledger
) -> None:
    jobs = [make_job(seed=1), make_job(seed=1, stage="final", variant="stn_affine+affine")]
    workers = []
    for job in jobs:
        assert executor.submit(job).result(PATIENCE_S) == job.key
        workers.append(pids())
    assert workers[0] == workers[1] and len(workers[0]) == 1
    assert os.getpid() not in workers[0]
    assert all(map(is_deaf_to_ctrl_c, workers[0]))
    trial, final = (ledger.read(job.key) for job in jobs)
    assert trial["status"] == final["status"] == "completed"
    assert trial["result"]["test_accuracy"] is None and final["result"]["num_test_images"] == 50
    assert sorted(os.listdir(ledger.folder(jobs[0].key))) == ["SHA256SUMS", "cost.json", "history.json", "run.json"]
    assert {"transformer.png", "weights.safetensors"} < set(os.listdir(ledger.folder(jobs[1].key)))
    assert [ledger.read(job.key, "cost.json")["threads"] for job in jobs] == [1, 1]
    assert ledger.running() == {}


@pytest.mark.long
def test_a_run_that_is_there_is_not_made_again(
    executor: LocalExecutor, make_job: Callable[..., Job], ledger: Ledger
) -> None:
    job = make_job(seed=1)
    executor.submit(job).result(PATIENCE_S)
    before = (ledger.folder(job.key) / "run.json").stat().st_mtime_ns
    assert executor.submit(job).result(PATIENCE_S) == job.key
    assert (ledger.folder(job.key) / "run.json").stat().st_mtime_ns == before


def test_a_run_that_cannot_be_built_is_an_error_of_its_own(
    executor: LocalExecutor, make_job: Callable[..., Job], ledger: Ledger
) -> None:
    unknown = make_job(variant="cnnn")
    with pytest.raises(UserError, match=r"unknown model 'cnnn'; did you mean 'cnn'\?"):
        executor.submit(unknown).result(PATIENCE_S)
    changed = dataclasses.replace(make_job(seed=2), key="0" * 16)
    with pytest.raises(ValueError, match="the images have changed since the study began"):
        executor.submit(changed).result(PATIENCE_S)
    assert unknown.key not in ledger and changed.key not in ledger
    assert executor.submit(make_job(seed=2)).result(PATIENCE_S) in ledger


@pytest.mark.long
def test_a_worker_that_is_killed_costs_its_own_run_once(
    executor: LocalExecutor, make_job: Callable[..., Job], ledger: Ledger
) -> None:
    job, next_job = make_job(epochs=25), make_job(seed=3)
    future, next_future = executor.submit(job), executor.submit(next_job)
    killed = pid_of_run(ledger, job.key)
    os.kill(killed, signal.SIGKILL)
    assert future.result(PATIENCE_S) == job.key
    assert next_future.result(PATIENCE_S) == next_job.key
    record = ledger.read(job.key)
    assert (record["status"], record["result"]["epochs"]) == ("completed", 25)
    assert [row["epoch"] for row in ledger.read(job.key, "history.json")] == [*range(1, 26)]
    wait_for(lambda: killed not in pids() and not process_is_alive(killed))


def test_a_run_whose_worker_is_killed_twice_is_given_up(make_job: Callable[..., Job], ledger: Ledger) -> None:
    others, job, killed = pids(), make_job(epochs=ENDLESS), set[int]()

    def started() -> set[int]:
        return pids() - others - killed

    with LocalExecutor("cpu", 1) as executor:
        future = executor.submit(job)
        for _ in range(2):
            wait_for(started)
            (worker,) = started()
            assert is_deaf_to_ctrl_c(worker)
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        with pytest.raises(WorkerDied, match=r"^the worker was killed by SIGKILL, .* \(2 attempts\)$"):
            future.result(PATIENCE_S)
    assert job.key not in ledger
    wait_for(lambda: not any(map(process_is_alive, killed)))


@pytest.mark.long
def test_an_exception_ends_the_workers_at_once(make_job: Callable[..., Job], ledger: Ledger) -> None:
    others, job, waiting = pids(), make_job(epochs=ENDLESS), make_job(epochs=ENDLESS, optim=Optim(lr=0.2))
    with pytest.raises(KeyboardInterrupt), LocalExecutor("cpu", 1) as executor:  # noqa: PT012
        futures = [executor.submit(job), executor.submit(waiting)]
        worker = pid_of_run(ledger, job.key)
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began < 5
    wait_for(lambda: pids() <= others)  # the last test's workers may have been ending
    wait_for(lambda: not process_is_alive(worker))
    wait_for(lambda: all(future.done() for future in futures))
    assert futures[1].cancelled()
    assert job.key not in ledger and waiting.key not in ledger


@pytest.mark.long
def test_the_run_of_a_worker_that_dies_goes_on_from_its_checkpoint(
    executor: LocalExecutor, make_job: Callable[..., Job], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(seed=6, epochs=80)
    future, folder = executor.submit(job), ledger.checkpoints(job.key)
    wait_for(lambda: list(folder.glob("epoch-*")))
    os.kill(pid_of_run(ledger, job.key), signal.SIGKILL)
    # Marked by a training time that nobody has waited for, while the next worker still starts.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    checkpoints = Checkpoints(folder, job.key, torch.device("cpu"))
    found = next(checkpoints.found())
    checkpoints._start_s -= 10_000
    for path in checkpoints.folder.iterdir():  # of two of one epoch, either would do
        path.unlink()
    checkpoints.keep(found)
    assert future.result(PATIENCE_S) == job.key
    assert ledger.read(job.key, "cost.json")["train_seconds"] > 10_000
    assert [row["epoch"] for row in ledger.read(job.key, "history.json")] == list(range(1, 81))
    assert not folder.exists()


SUPERVISOR = """
import json, sys
from pathlib import Path
from ledger.config import Protocol, RunConfig, run_key
from experiments.sweep.executors.local import LocalExecutor
from experiments.runs.run import Job, Source
from experiments.images.tasks import load_task
if __name__ == "__main__":
    cache, ledger, protocol = Path(sys.argv[1]), Path(sys.argv[2]), Protocol(**json.loads(sys.argv[3]))
    task = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)
    run = RunConfig(variant="cnn", stage="trial", protocol=protocol)
    job = Job(run, run_key(run, task.content_hash), Source("sprites", "", 32, cache), ledger)
    with LocalExecutor("cpu", 1) as executor:
        executor.submit(job).result()
"""


@pytest.mark.long
def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "supervisor.py").write_text(SUPERVISOR)
    ledger = Ledger(tmp_path / "runs")
    protocol = json.dumps(dataclasses.asdict(dataclasses.replace(TINY, epochs=ENDLESS)))
    process = subprocess.Popen(
        [sys.executable, "supervisor.py", str(cache), str(ledger.root), protocol],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: ledger.running() or process.poll() is not None)
        (progress,) = ledger.running().values()
        process.kill()
        process.wait()
        wait_for(lambda: not process_is_alive(progress["pid"]))
    finally:
        process.kill()
    assert ledger.running() == {}
    assert len(ledger) == 0
    ledger.sweep_up()
    assert not list((ledger.root / "running").iterdir())


def test_ctrl_c_stays_blocked_where_workers_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """multiprocessing's tracker, which comes with the first process, unblocks it in the thread that starts it."""
    tracker = resource_tracker.ResourceTracker()  # as in a new program
    monkeypatch.setattr(resource_tracker, "ensure_running", tracker.ensure_running)
    try:
        with LocalExecutor("cpu", 1) as executor:
            executor._threads.submit(tracker.ensure_running).result(PATIENCE_S)
            blocked = executor._threads.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result(PATIENCE_S)
    finally:
        tracker._stop()  # type: ignore[attr-defined]
    assert signal.SIGINT in blocked


def test_workers_are_as_many_as_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert default_num_workers("cpu") == len(os.sched_getaffinity(0))
    assert default_num_workers("cpu", 7) == len(os.sched_getaffinity(0))
    assert [default_num_workers("cuda", each) for each in (1, 3)] == [2, 6]
    assert default_num_workers("mps", 3) == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert default_num_workers("cpu") == 3


def test_workers_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of_workers("cpu", 3) == [torch.device("cpu")] * 3
    assert [str(device) for device in devices_of_workers("cuda", 3)] == ["cuda:0", "cuda:1", "cuda:0"]
