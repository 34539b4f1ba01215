"""Workers that crash, hang or lack memory: the run is tried again from its checkpoint, then it is a failed run."""

import dataclasses
import itertools
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from experiments.images.tasks import cache as task_cache
from experiments.images.tasks import load_task
from experiments.machine import heartbeat, parent_death
from experiments.runs.run import Job, Source, is_out_of_memory, make_run
from experiments.sweep.executors import WorkerDied, local
from experiments.sweep.executors.local import LocalExecutor
from ledger.config import Protocol, RunConfig, run_key
from ledger.ledger import Ledger
from tests.faults import faulty_worker
from tests.faults.faulty_worker import ALWAYS, MET, SEEDS
from tests.support.tiny_study import TINY, plan_of

SHORT = Protocol(
    train_images=48, val_images=16, test_images=16, epochs=4, batch_size=16, precision="fp32", device="cpu",
    robustness="none",
)  # fmt: skip
PATIENCE_S = 240.0
STALL_S = 2.0
HANG = f"no progress for {STALL_S:g} s (2 attempts)"
MEMORY = "out of memory on cpu"
ENDS = {
    "segfault": "the worker was killed by SIGSEGV (2 attempts)",
    "killed": "the worker was killed by SIGKILL, as Linux does when memory runs out (2 attempts)",
    "ended": "the worker ended with status 3 (2 attempts)",
    "memory error": MEMORY,
    "allocator": MEMORY,
    "stopped": HANG,
    "deadlock": HANG,
    "endless loop": HANG,
    "stuck in C": HANG,
}


@pytest.fixture
def make_job(cache: Path, tmp_path: Path) -> Callable[..., Job]:
    source = Source(task="sprites", label="", image_px=32, cache=cache)
    task = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)

    def make(seed: int, ledger: str = "runs") -> Job:
        run = RunConfig(variant="cnn@lenet", stage="final", seed=seed, protocol=SHORT)
        return Job(run, run_key(run, task.content_hash), source, Ledger(tmp_path / ledger).root)

    return make


class PatientlyWatched(local._Worker):
    """Its silence counts from a fault that hangs: others may be at work on this machine, and slow is not hung."""

    def _ask_once(self, job: Job, *, is_last: bool) -> str:
        self.met, self.seed = Ledger(job.ledger).root / MET, job.run.seed
        self.num_met = self.count_met()
        return super()._ask_once(job, is_last=is_last)

    def count_met(self) -> int:
        return self.met.read_text().split().count(str(self.seed)) if self.met.exists() else 0

    def _await(self) -> None:
        hangs = [seed + always for name, seed in SEEDS.items() for always in (0, ALWAYS) if ENDS[name] == HANG]
        while not self._pipe.poll(0.05) and not (self.seed in hangs and self.count_met() > self.num_met):
            pass
        super()._await()


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "begin", faulty_worker.begin)
    monkeypatch.setattr(local, "LOOK_S", 0.2)
    monkeypatch.setattr(local, "_Worker", PatientlyWatched)


def repeatable(ledger: Ledger, key: str) -> dict[str, bytes]:
    names = ("run.json", "history.json", "weights.safetensors", "predictions.safetensors")
    return {name: (ledger.folder(key) / name).read_bytes() for name in names}


@pytest.mark.long
def test_every_fault_is_retried_and_then_given_up(
    make_job: Callable[..., Job], faulty: None, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Once: the same bytes as without it, from the checkpoint. In both attempts: the cause, in the same words."""
    assert ENDS.keys() == SEEDS.keys()
    once = list(SEEDS) if whole else ["stopped"]
    always = list(SEEDS) if whole else ["allocator"]
    jobs = {name: make_job(SEEDS[name]) for name in once}
    doomed = {name: make_job(SEEDS[name] + ALWAYS) for name in always}
    peaceful = make_job(1)
    ledger = Ledger(peaceful.ledger)
    with LocalExecutor("cpu", 2 if whole else 1, STALL_S) as executor:
        first = {name: executor.submit(job) for name, job in jobs.items()}
        second = {name: executor.submit(job) for name, job in doomed.items()}
        last = executor.submit(peaceful)
        for name, future in first.items():
            assert future.result(PATIENCE_S) == jobs[name].key
        for name, future in second.items():
            if ENDS[name] == MEMORY:  # the worker itself could say so, and has kept what it knew
                record = ledger.read(future.result(PATIENCE_S))
                assert (record["status"], record["error"], record["result"]["epochs"]) == ("failed", MEMORY, 3)
            else:
                with pytest.raises(WorkerDied) as death:
                    future.result(PATIENCE_S)
                assert str(death.value) == ENDS[name]
                assert doomed[name].key not in ledger
        assert last.result(PATIENCE_S) in ledger  # the others go on
    met = [int(line) for line in (ledger.root / MET).read_text().split()]
    assert sorted(met) == sorted([*(SEEDS[name] for name in once), *(SEEDS[name] + ALWAYS for name in always * 2)])
    torch.set_num_threads(1)
    for name, job in jobs.items():
        undisturbed = make_job(SEEDS[name], "undisturbed")
        make_run(undisturbed, torch.device("cpu"))
        assert repeatable(ledger, job.key) == repeatable(Ledger(undisturbed.ledger), job.key), name
    assert not multiprocessing.active_children()


def test_a_study_records_what_failed_and_goes_on(
    tmp_path: Path, cache: Path, faulty: None, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    if not whole:
        pytest.skip("starts several workers; `make faults` does")
    from experiments.sweep import sweep

    monkeypatch.setattr(sweep, "TUNING_SEED", SEEDS["segfault"] + ALWAYS)
    under_way = sweep.Sweep(plan_of(tmp_path, protocol=TINY["protocol"] | {"epochs": 4}), Ledger(tmp_path), store=True)
    under_way.replay()
    with LocalExecutor("cpu", 2, STALL_S) as executor:
        under_way.run(executor, on_finish=lambda job: None, on_tick=lambda: None)
    for arm in under_way.arms:
        assert {under_way.ledger.read(key)["error"] for key in arm.trials} == {ENDS["segfault"]}
        assert arm.winners == [None] and len(arm.finals) == 2
        assert [under_way.ledger.read(key)["error"] for key in arm.finals] == [ENDS["killed"], ENDS["ended"]]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-signal.SIGSEGV, "the worker was killed by SIGSEGV"),
        (-signal.SIGABRT, "the worker was killed by SIGABRT"),
        (-signal.SIGKILL, "the worker was killed by SIGKILL, as Linux does when memory runs out"),
        (7, "the worker ended with status 7"),
        (None, "the worker closed its pipe"),
    ],
)
def test_an_end_has_a_name(code: int | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "END_S", 0.01)
    process = SimpleNamespace(exitcode=code)
    assert local._how_it_ended(cast(Any, process)) == said


@pytest.mark.parametrize(
    ("problem", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_too_little_memory_is_known_by_its_many_names(problem: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(problem) is is_memory


def test_what_torch_says_of_too_little_memory_is_understood() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(refused.value)


class Silent:
    """A pipe on which nothing comes, and what the clock says at each look."""

    def __init__(self, steps_s: list[float]) -> None:
        self.now_s, self.steps_s = 0.0, steps_s

    def poll(self, timeout: float) -> bool:
        if not self.steps_s:
            return True
        self.now_s += self.steps_s.pop(0)
        return False


def await_silence(monkeypatch: pytest.MonkeyPatch, stall_s: float, steps_s: list[float], beats: int) -> Silent:
    worker, pipe = local._Worker(torch.device("cpu"), stall_s), Silent(steps_s)
    worker._pipe, worker._beats = cast(Any, pipe), heartbeat.Counter(beats)
    monkeypatch.setattr("experiments.sweep.executors.local.time.monotonic", lambda: pipe.now_s)
    worker._await()
    return pipe


def test_who_is_silent_for_too_long_is_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(local._Died, match=r"^no progress for 900 s$"):
        await_silence(monkeypatch, 900, [1.0] * 902, beats=1)
    with pytest.raises(local._Died, match=r"^no progress for 3600 s$"):
        await_silence(monkeypatch, 900, [1.0] * 3601, beats=0)  # torch may take long to import, CUDA to compile
    await_silence(monkeypatch, 900, [1.0] * 890, beats=1)
    await_silence(monkeypatch, 900, [1.0] * 3590, beats=0)
    await_silence(monkeypatch, 0, [1.0] * 100_000, beats=1)


def test_a_night_in_which_nobody_looked_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z stops the supervisor as well; a laptop sleeps."""
    await_silence(monkeypatch, 900, [1.0] * 100 + [30_000.0] + [1.0] * 100, beats=1)


def test_every_batch_is_a_sign_of_life(make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """3 training steps and a batch of validation in each of 4 epochs, and what follows at the end."""
    beats = heartbeat.Counter(0)
    heartbeat.beat_into(beats)
    try:
        job = make_job(1)
        protocol = dataclasses.replace(SHORT, robustness="quick")
        seen: list[int] = []
        key = run_key(dataclasses.replace(job.run, protocol=protocol), load(job).content_hash)
        job = dataclasses.replace(job, run=dataclasses.replace(job.run, protocol=protocol), key=key)
        make_run(job, torch.device("cpu"), lambda row: seen.append(beats.value))
    finally:
        monkeypatch.setattr(heartbeat, "_beats", None)
    assert [after - before for before, after in itertools.pairwise(seen)] == [4, 4, 4]
    assert beats.value - seen[-1] > 50  # transformed images


def load(job: Job) -> Any:
    return load_task("sprites", image_px=32, cache=job.source.cache, say=lambda line: None)


def test_a_sign_of_life_costs_nothing(record_figures: Callable[..., None]) -> None:
    import timeit

    heartbeat.beat_into(heartbeat.Counter(0))
    try:
        seconds = min(timeit.repeat(heartbeat.beat, number=10_000, repeat=3)) / 10_000
    finally:
        heartbeat._beats = None
    record_figures("heartbeat", microseconds=round(seconds * 1e6, 3))
    assert seconds < 20e-6


def test_threads_that_wait_for_workers_end_with_them(make_job: Callable[..., Job]) -> None:
    """Stopped before the first process was started: none is."""
    executor = LocalExecutor("cpu", 1)
    with pytest.raises(KeyboardInterrupt), executor:  # noqa: PT012
        for worker in executor._workers:
            worker.kill()
        future = executor.submit(make_job(3))
        with pytest.raises(WorkerDied, match="stopped"):
            future.result(5)
        raise KeyboardInterrupt
    assert isinstance(executor._threads, ThreadPoolExecutor) and not multiprocessing.active_children()


def test_who_waits_for_anothers_images_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_cache, "_BEAT_S", 0.01, raising=False)
    beats, said = heartbeat.Counter(0), list[str]()
    monkeypatch.setattr(heartbeat, "_beats", beats)

    def wait_for_it() -> None:
        with task_cache._lock(tmp_path / "x", "waits", said.append):
            said.append("has it")

    waiting = threading.Thread(target=wait_for_it, daemon=True)
    with task_cache._lock(tmp_path / "x", "", said.append):
        waiting.start()
        end_s = time.monotonic() + 10
        while beats.value < 3 and time.monotonic() < end_s:
            time.sleep(0.01)
        assert said == ["waits"]
    waiting.join(PATIENCE_S)
    assert said == ["waits", "has it"] and beats.value >= 3


def no_such_call(library: None) -> Any:
    return SimpleNamespace()


def refused_call(library: None) -> Any:
    return SimpleNamespace(prctl=lambda option, how: -1)


@pytest.mark.parametrize("library", [no_such_call, refused_call])
def test_a_process_looks_for_its_parent_where_the_kernel_does_not(
    library: Callable[[None], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, parents, sent = threading.Event(), [7, 7, 1], list[tuple[int, int]]()

    def kill(pid: int, how: int) -> None:
        sent.append((pid, how))
        ended.set()

    monkeypatch.setattr(parent_death, "LOOK_S", 0.001)
    monkeypatch.setattr(parent_death, "ctypes", SimpleNamespace(CDLL=library, c_ulong=int))
    system = SimpleNamespace(getppid=lambda: parents.pop(0), getpid=lambda: 5, kill=kill)
    monkeypatch.setattr(parent_death, "os", system)
    parent_death.end_with_parent(7, signal.SIGTERM)
    assert ended.wait(PATIENCE_S) and sent == [(5, signal.SIGTERM)] and not parents


def test_the_kernel_is_asked_in_one_place() -> None:
    files = Path(parent_death.__file__).parent.rglob("*.py")
    assert {file.name for file in files if "prctl" in file.read_text()} == {"parent_death.py"}
