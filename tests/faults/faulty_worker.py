"""A worker process whose runs go wrong: what tests put in the place of the real one."""

import ctypes
import os
import resource
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from experiments.machine.heartbeat import Counter
from experiments.runs import checkpoints, training
from experiments.runs import run as runs
from experiments.sweep.executors import worker

MET = "faults"
"""File in the ledger: for each fault that came about, a line with the run's seed."""
ALWAYS = 100
"""Added to a seed: its run meets the fault in every attempt, not in the first one alone."""


def raise_memory_error() -> None:
    raise MemoryError


def wait_for_itself() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def turn_for_ever() -> None:
    while True:
        pass


FAULTS: dict[str, Callable[[], object]] = {
    "segfault": lambda: ctypes.string_at(0),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "ended": lambda: os._exit(3),
    "memory error": raise_memory_error,
    "allocator": lambda: torch.empty(2**50, dtype=torch.uint8),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "deadlock": wait_for_itself,
    "endless loop": turn_for_ever,
    "stuck in C": lambda: ctypes.PyDLL(None).sleep(1000),  # with the GIL: nothing else in the process runs
}
SEEDS = {name: 1000 + number for number, name in enumerate(FAULTS)}


def begin(pipe: Connection, device: str, beats: Counter, parent: int) -> None:
    """As the real worker; a run with one of these seeds meets its fault after its second epoch, which is kept."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    checkpoints.EVERY_S, checkpoints.COST_SHARE = 0.0, 1e9
    names = {seed: name for name, seed in SEEDS.items()}
    real: Callable[..., str] = training.train

    def train(*arguments: Any) -> str:
        *others, report, kept = arguments
        seed = others[4].seed
        name = names.get(seed) or names.get(seed - ALWAYS)
        met = Path(kept.folder).parents[1] / MET
        known = met.read_text().split() if met.exists() else []

        def then_fail(row: dict[str, Any]) -> None:
            report(row)
            if name and row["epoch"] == 3 and (seed not in SEEDS.values() or str(seed) not in known):
                with open(met, "a") as file:
                    file.write(f"{seed}\n")
                FAULTS[name]()

        return real(*others, then_fail, kept)

    setattr(runs, "train", train)  # noqa: B010  a module has no place for it
    worker.begin(pipe, device, beats, parent)
