"""Places: where runs are carried out, and by what. Nothing else in the program knows how one of them works."""

import importlib
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from ledger.errors import UserError, nearest

if TYPE_CHECKING:  # a worker comes by here, and ends with its parent before torch is imported
    from experiments.images.tasks import Say
    from experiments.machine.device import Call
    from experiments.runs.run import Job
    from experiments.study.plan import Plan

PLACES = ("local", "ray")
"""Modules of this package, each with an `open_place`; imported when somebody asks for it."""


class WorkerDied(RuntimeError):
    """A run was given up, since its worker ended, hung or had too little memory in every attempt; the message says how.

    The same faults have the same message.
    """


class Executor(Protocol):
    """Carries out jobs, `concurrent.futures` style. Use as a context manager.

    Leaving it after an exception ends the workers at once; else waits for what was submitted.
    """

    def submit(self, job: "Job") -> "Future[str]":
        """The job's key, once it is in the ledger. Raises WorkerDied there, or what runs.run.make_run does."""
        ...


@dataclass(frozen=True)
class Workers:
    """How many the place has room for now. limit: no more than these when it has room for more; 0: as many as it has.

    stall_s: seconds without a sign of life after which one is replaced; 0: never. per_gpu: that share a GPU.
    """

    number: int
    stall_s: float
    limit: int = 0
    per_gpu: int = 1


class Place(Protocol):
    """Machines with workers."""

    @property
    def text(self) -> str:
        """What the machines are, in a line; "" where that needs no saying."""
        ...

    @property
    def processes_here(self) -> int:
        """Processes that a worker takes of this machine's memory; 0 where workers are elsewhere."""
        ...

    @property
    def call(self) -> "Call":
        """Calls a function on a machine that has workers, with the arguments that follow; raises what it raises."""
        ...

    def num_workers(self, device: str, asked: int, per_gpu: int) -> int:
        """As many workers as are asked for and can be had now; 0 asks for as many as pay."""
        ...

    def executor(self, plan: "Plan", workers: Workers, say: "Say") -> AbstractContextManager[Executor]:
        """Workers for the plan's runs. say: where to tell of machines that come and go.

        Raises UserError for what can be known to fail before anything trains.
        """
        ...


def open_place(name: str) -> AbstractContextManager[Place]:
    """The place of that name. Raises UserError for one that nobody knows, or that cannot be had."""
    if name not in PLACES:
        raise UserError(f"executor: {name!r} is unknown; {nearest(name, PLACES)}")
    return cast(
        AbstractContextManager[Place], importlib.import_module(f"experiments.sweep.executors.{name}").open_place()
    )
