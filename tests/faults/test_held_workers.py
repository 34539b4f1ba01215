"""Workers that cannot be started, or that no signal ends: the system's answers are played, no process is started."""

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, cast

import pytest
import torch

from experiments.sweep.executors import WorkerDied, local
from experiments.sweep.executors.local import LocalExecutor

PATIENCE_S = 60.0
MEMORY = "out of memory on cpu"


class Process:
    """Stands for multiprocessing's. It has given these answers before it is asked; then it is silent.

    "close" for an answer: it closes its pipe. A driver or a disk holds it, so that no signal ends it, until `is_dead`.
    """

    def __init__(self, answers: list[Any], theirs: Connection) -> None:
        self.answers, self.theirs, self.kills = answers, theirs, 0
        self.is_started = self.is_dead = self.is_closed = False

    def start(self) -> None:
        if self.answers and isinstance(self.answers[0], OSError):
            raise self.answers[0]
        self.is_started, self.theirs = True, Connection(os.dup(self.theirs.fileno()))
        for answer in self.answers:
            self.theirs.close() if answer == "close" else self.theirs.send(answer)

    def is_alive(self) -> bool:
        return self.is_started and not self.is_dead

    @property
    def exitcode(self) -> int | None:
        return -signal.SIGKILL if self.is_dead else None

    def kill(self) -> None:
        if self.is_closed:
            raise ValueError("process object is closed")
        if not self.is_started:
            raise AttributeError("'NoneType' object has no attribute 'kill'")
        self.kills += 1

    def join(self, timeout: float) -> None:
        pass

    def close(self) -> None:
        if self.is_alive():
            raise ValueError("Cannot close a process while it is still running.")
        self.is_closed = True

    def jobs(self) -> list[Any]:
        """What it was asked, and None where nobody can ask any more."""
        asked = []
        while self.theirs.poll(0):
            try:
                asked.append(self.theirs.recv()[0])
            except EOFError:
                return [*asked, None]
        return asked


class Spawn:
    """Stands for multiprocessing's context; an OSError in the place of answers is what the system says to the start."""

    def __init__(self, *answers: list[Any], no_pipe: int | None = None) -> None:
        self.answers, self.no_pipe = answers, no_pipe
        self.processes: list[Process] = []
        self.pipes: list[tuple[Connection, Connection]] = []

    def Pipe(self) -> tuple[Connection, Connection]:
        if len(self.pipes) == self.no_pipe:
            raise OSError(errno.EMFILE, "Too many open files")
        self.pipes.append(multiprocessing.Pipe())
        return self.pipes[-1]

    def Process(self, target: object, args: tuple[Any, ...], daemon: bool) -> Process:
        self.processes.append(Process(self.answers[len(self.processes)], args[0]))
        return self.processes[-1]


@pytest.fixture
def spawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Spawn]:
    def make(*answers: list[Any], no_pipe: int | None = None) -> Spawn:
        made = Spawn(*answers, no_pipe=no_pipe)
        monkeypatch.setattr("experiments.sweep.executors.local.multiprocessing.get_context", lambda method: made)
        return made

    for name in ("LOOK_S", "END_S"):
        monkeypatch.setattr(local, name, 0.01)
    return make


def worker_on_cpu() -> Any:
    return local._Worker(torch.device("cpu"), stall_s=0.02)


@pytest.mark.parametrize(
    ("answers", "asked"),
    [([], ["a", None]), (["close"], None), ([("key", True)], ["a", None])],
    ids=["silent", "without a pipe", "spent"],
)
def test_a_worker_that_outlives_its_kill_is_asked_nothing_more(
    spawn: Callable[..., Spawn], answers: list[Any], asked: list[Any] | None
) -> None:
    context, worker = spawn(answers, [("key", False)] * 3), worker_on_cpu()
    assert [worker.ask(job) for job in ("a", "b", "c")] == ["key"] * 3
    held, other = context.processes
    assert held.is_alive() and held.kills
    assert asked is None or held.jobs() == asked
    assert other.jobs() == (["b", "c"] if answers == [("key", True)] else ["a", "b", "c"])


def test_a_process_that_is_held_after_it_closed_its_files_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "END_S", 0.05)
    code = "[__import__('os').closerange(0, 256), __import__('time').sleep(20)]"
    process, worker = (
        multiprocessing.get_context("spawn").Process(target=eval, args=(code,), daemon=True),
        worker_on_cpu(),
    )
    process.start()
    try:
        multiprocessing.connection.wait([process.sentinel], PATIENCE_S)
        began_s, (worker._pipe, _) = time.monotonic(), multiprocessing.Pipe()
        worker._process = process
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process, "kill", lambda: None)
            worker.forget()
        assert worker._process is None and process.is_alive() and time.monotonic() - began_s < 10
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("what", ["process", "pipe"])
def test_where_the_system_gives_no_worker_the_others_end_and_the_error_is_told(
    spawn: Callable[..., Spawn], what: str
) -> None:
    done, refusal = ("key", False), OSError(errno.EAGAIN, "Resource temporarily unavailable")
    context = spawn([done, done], [done], [done], [refusal], no_pipe=3 if what == "pipe" else None)
    said = "Too many open files" if what == "pipe" else "Resource temporarily unavailable"
    with pytest.raises(OSError, match=said), LocalExecutor("cpu", 3) as executor:  # noqa: PT012
        for _ in range(3):
            executor.submit(cast(Any, "job")).result(PATIENCE_S)
        first, dead, last = context.processes
        dead.is_dead = True
        executor.submit(cast(Any, "job")).result(PATIENCE_S)
        executor.submit(cast(Any, "job")).result(PATIENCE_S)
    assert dead.is_closed and first.kills and last.kills
    assert all(end.closed for end in (*context.pipes[1], *(context.pipes[3] if what == "process" else ())))


def test_one_that_cannot_be_killed_does_not_save_the_others(spawn: Callable[..., Spawn]) -> None:
    context = spawn(*[[("key", False)]] * 3)
    with pytest.raises(KeyboardInterrupt), LocalExecutor("cpu", 3) as executor:  # noqa: PT012
        for _ in range(3):
            executor.submit(cast(Any, "job")).result(PATIENCE_S)
        context.processes[0].is_started = False  # it raises
        raise KeyboardInterrupt
    assert [process.kills for process in context.processes] == [0, 1, 1]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((MemoryError(), True), (MemoryError(), True), MEMORY),
        ("close", (MemoryError(), True), MEMORY),
        ((MemoryError(), True), "close", f"{MEMORY}, then the worker closed its pipe"),
    ],
)
def test_too_little_memory_has_one_text_before_a_run_has_begun_too(
    spawn: Callable[..., Spawn], first: Any, second: Any, said: str
) -> None:
    spawn([first], [second])
    with pytest.raises(WorkerDied) as death:
        worker_on_cpu().ask("job")
    assert str(death.value) == said
