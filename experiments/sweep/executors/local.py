"""Worker processes on this machine: long-lived, a device each, one thread each on a CPU, one run at a time each.

One that dies, or gives no sign of life for too long, is replaced, and its run tried again from its checkpoint.
"""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import heap, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from typing import TYPE_CHECKING

import torch

from experiments.machine import heartbeat
from experiments.machine.cores import lacks_shared_memory, num_cores
from experiments.machine.device import Call, here
from experiments.runs.run import Job, out_of_memory
from experiments.sweep.executors.places import WorkerDied, Workers
from experiments.sweep.executors.worker import begin

if TYPE_CHECKING:
    from experiments.images.tasks import Say
    from experiments.study.plan import Plan

NUM_ATTEMPTS = 2
"""At a run whose worker dies, hangs or has too little memory."""
STALL_S = 900.0
"""Seconds without a sign of life after which a worker counts as hung. Between two of them lies a training step, a batch
of an evaluation, or what precedes the first, such as counting FLOPs. Downloads and decoding give signs as well."""
START_FACTOR = 4
"""So many times as long a worker may take to its first sign of life: torch is imported, CUDA compiles for a new GPU."""
LOOK_S = 1.0
END_S = 5.0
"""Seconds in which a worker that was killed ends, unless a driver or a disk that hangs holds it."""

if lacks_shared_memory():
    heap.Arena._dir_candidates = []  # type: ignore[attr-defined]  # it would fail there; so temporary files do


def default_num_workers(device: str, workers_per_gpu: int = 1) -> int:
    """As many workers as pay: one for each core that this process may use, or `workers_per_gpu` for each GPU."""
    if device == "cuda":
        return workers_per_gpu * torch.cuda.device_count()
    return 1 if device == "mps" else num_cores()


def devices_of_workers(device: str, num_workers: int) -> list[torch.device]:
    """The device of each worker: GPUs in turn."""
    if device != "cuda":
        return [torch.device(device)] * num_workers
    return [torch.device("cuda", index % torch.cuda.device_count()) for index in range(num_workers)]


class _Died(Exception):
    """A worker ended, or was ended, before it had an answer; the message says how."""


class _Worker:
    """One process, started when there is work, and replaced when it dies.

    Linux ends it with the thread that started it, so that must live as long as it is needed.
    """

    def __init__(self, device: torch.device, stall_s: float) -> None:
        self.device, self.stall_s = device, stall_s
        self._beats = RawValue(heartbeat.Counter, 0)
        self._lock = threading.Lock()
        self._stopped = False
        self._process: BaseProcess | None = None
        self._pipe: Connection

    def ask(self, job: Job) -> str:
        """The job's key. Raises WorkerDied, or what make_run raises."""
        causes = []
        for number in range(1, NUM_ATTEMPTS + 1):
            try:
                return self._ask_once(job, is_last=number == NUM_ATTEMPTS)
            except MemoryError:
                causes.append(out_of_memory(self.device))
            except _Died as death:
                causes.append(str(death))
        if causes[-1] == out_of_memory(self.device):  # which a run that got further says itself, in these words
            raise WorkerDied(causes[-1])
        if len(set(causes)) == 1:
            raise WorkerDied(f"{causes[0]} ({NUM_ATTEMPTS} attempts)")
        raise WorkerDied(", then ".join(causes))

    def _ask_once(self, job: Job, *, is_last: bool) -> str:
        process = self._started()
        is_spent = True  # as is one that gives no answer
        try:
            self._pipe.send((job, is_last))
            self._await()
            answer, is_spent = self._pipe.recv()
        except (EOFError, OSError):
            raise _Died(_how_it_ended(process)) from None
        finally:
            if is_spent:
                self.forget()
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def _started(self) -> BaseProcess:
        with self._lock:
            if self._stopped:
                raise WorkerDied("the workers were stopped")
            if self._process is None or not self._process.is_alive():
                self._close()
                self._process, self._pipe = self._start()
            return self._process

    def _start(self) -> tuple[BaseProcess, Connection]:
        """A process, and our end of its pipe. Raises OSError if the system gives none; then nothing is left open."""
        self._beats.value = 0
        spawn = multiprocessing.get_context("spawn")
        pipe, other_end = spawn.Pipe()
        try:
            arguments = (other_end, str(self.device), self._beats, os.getpid())
            process = spawn.Process(target=begin, args=arguments, daemon=True)
            process.start()
        except BaseException:
            pipe.close()
            raise
        finally:
            other_end.close()  # so that the pipe ends with the worker
        return process, pipe

    def _await(self) -> None:
        """Come back when the pipe has an answer or an end. Raises _Died for a worker that has been silent too long.

        Time counts only while it is looked at: Ctrl-Z, or a laptop that sleeps, stops both sides.
        """
        silent_s, beats, looked_s = 0.0, 0, time.monotonic()
        while not self._pipe.poll(LOOK_S):
            now_s = time.monotonic()
            silent_s += min(now_s - looked_s, 2 * LOOK_S)
            looked_s = now_s
            if self._beats.value != beats:
                silent_s, beats = 0.0, self._beats.value
            limit_s = self.stall_s * (1 if beats else START_FACTOR)
            if 0 < limit_s <= silent_s:
                raise _Died(f"no progress for {limit_s:g} s")

    def _close(self) -> None:
        if self._process is not None:
            self._pipe.close()
            with suppress(ValueError):  # the system does not let go of it
                self._process.close()
            self._process = None

    def kill(self) -> None:
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def forget(self) -> None:
        """Kill the process and have no more to do with it, even if it outlives that. No thread may wait for it."""
        if self._process is not None:
            self._process.kill()
            _exit_code(self._process, END_S)
            with self._lock:
                self._close()


def _exit_code(process: BaseProcess, limit_s: float) -> int | None:
    """As soon as it has one. `join` may wait longer: for one that has closed its files, but is held by a driver."""
    end_s = time.monotonic() + limit_s
    while (code := process.exitcode) is None and time.monotonic() < end_s:
        time.sleep(0.01)
    return code


def _how_it_ended(process: BaseProcess) -> str:
    code = _exit_code(process, 2 * END_S)
    if code == -signal.SIGKILL:
        return "the worker was killed by SIGKILL, as Linux does when memory runs out"
    if code is not None and code < 0:
        return f"the worker was killed by {signal.Signals(-code).name}"
    return "the worker closed its pipe" if code is None else f"the worker ended with status {code}"


class LocalExecutor(AbstractContextManager["LocalExecutor"]):
    """An Executor of processes on this machine. stall_s: see STALL_S; 0: workers may be silent for ever."""

    def __init__(self, device: str, num_workers: int, stall_s: float = STALL_S) -> None:
        self.num_workers = num_workers
        self._workers = [_Worker(device, stall_s) for device in devices_of_workers(device, num_workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        # These threads start the processes, which inherit the mask: a Ctrl-C that comes before a worker has begun would
        # make it print a traceback. The tracker, which comes with the first of them, would unblock it there.
        resource_tracker.ensure_running()
        mask = (signal.SIG_BLOCK, {signal.SIGINT})
        self._threads = ThreadPoolExecutor(num_workers, initializer=signal.pthread_sigmask, initargs=mask)

    def submit(self, job: Job) -> "Future[str]":
        return self._threads.submit(self._ask_worker, job)

    def _ask_worker(self, job: Job) -> str:
        worker = self._idle.get()
        try:
            return worker.ask(job)
        finally:
            self._idle.put(worker)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._threads.shutdown(wait=error is None, cancel_futures=error is not None)
        finally:
            for worker in self._workers:
                with suppress(Exception):  # the others must end as well; what ended the sweep is what it says
                    worker.kill()
        if error is None:
            for worker in self._workers:
                worker.forget()


class ThisMachine:
    """The place that needs no set-up."""

    text = ""
    processes_here = 1
    call: Call = staticmethod(here)

    def num_workers(self, device: str, asked: int, per_gpu: int) -> int:
        return asked or default_num_workers(device, per_gpu)

    def executor(self, plan: "Plan", workers: Workers, say: "Say") -> LocalExecutor:
        return LocalExecutor(plan.protocol.device, workers.number, workers.stall_s)


@contextmanager
def open_place() -> Iterator[ThisMachine]:
    yield ThisMachine()
