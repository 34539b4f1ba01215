"""Worker processes on this machine: long-lived, a device each, one thread each on a CPU."""

import ctypes
import multiprocessing
import os
import queue
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from types import TracebackType

import torch

from experiments.ledger import Ledger
from experiments.runs import Job, carry_out

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names and numbers of glibc's malloc.h."""


class WorkerDied(RuntimeError):
    """A worker process ended in the middle of a run, twice."""


def default_num_workers(device: str, workers_per_gpu: int = 1) -> int:
    """As many workers as pay: one for each core that this process may use, or `workers_per_gpu` for each GPU."""
    if device == "cuda":
        return workers_per_gpu * torch.cuda.device_count()
    if device == "mps":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices_of_workers(device: str, num_workers: int) -> list[torch.device]:
    """The device of each worker: GPUs in turn."""
    if device != "cuda":
        return [torch.device(device)] * num_workers
    return [torch.device("cuda", index % torch.cuda.device_count()) for index in range(num_workers)]


def prepare_device(device: torch.device) -> None:
    """Settings under which a run gives the same result whatever else the machine does."""
    if device.type == "cuda":
        if device.index is not None:
            torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; who wants speed has bf16
    else:
        torch.set_num_threads(1)
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Have glibc keep large blocks that are freed; other C libraries are left alone.

    Given back to the system and taken again, every page of every step's activations would fault anew, which costs
    up to a fifth of the time.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(parameter, 2**30)


def _begin_worker(device: torch.device, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    prepare_device(device)
    threading.Thread(target=_die_with_parent, args=(parent,), daemon=True).start()


def _die_with_parent(parent: int) -> None:
    """A supervisor that was killed cannot stop its workers, so each looks whether it still has one."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _carry_out(job: Job, device: torch.device) -> str:
    key = carry_out(job, device)
    if device.type == "cuda":
        error = Ledger(job.ledger).read(key)["error"] or ""
        if error and not error.startswith("out of memory"):
            os._exit(1)  # a CUDA fault may have broken this process for every later run; the run is in the ledger
    return key


class _Worker:
    """One process, replaced when it dies."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stopped = False
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
            initargs=(self.device, os.getpid()),
        )

    def carry_out(self, job: Job) -> str:
        for _ in range(2):
            try:
                return self._pool.submit(_carry_out, job, self.device).result()
            except BrokenProcessPool:
                if self._stopped:
                    raise
                self._pool = self._start()
        raise WorkerDied("the worker process ended in the middle of the run, twice")

    def kill(self) -> None:
        self._stopped = True
        for process in list((self._pool._processes or {}).values()):
            with suppress(OSError):
                process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)


class LocalExecutor:
    """Carries out jobs on this machine, `concurrent.futures` style. Use as a context manager.

    Leaving it after an exception kills the workers at once; else waits for what was submitted.
    """

    def __init__(self, device: str, num_workers: int) -> None:
        self.num_workers = num_workers
        self._workers = [_Worker(device) for device in devices_of_workers(device, num_workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        # These threads start the processes, which inherit the mask: a Ctrl-C that comes before a worker has begun would
        # make it print a traceback.
        mask = (signal.SIG_BLOCK, {signal.SIGINT})
        self._threads = ThreadPoolExecutor(num_workers, initializer=signal.pthread_sigmask, initargs=mask)

    def submit(self, job: Job) -> "Future[str]":
        """The job's key, once it is in the ledger. Raises WorkerDied there, or what carry_out raises."""
        return self._threads.submit(self._carry_out, job)

    def _carry_out(self, job: Job) -> str:
        worker = self._idle.get()
        try:
            return worker.carry_out(job)
        finally:
            self._idle.put(worker)

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        else:
            self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.kill()
