"""Places: where runs are carried out, and by what. Nothing else in the program knows how one of them works."""

import importlib
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, cast

from experiments.device import Call
from experiments.errors import UserError, nearest

if TYPE_CHECKING:
    from experiments.plan import Plan
    from experiments.runs import Job

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
        """The job's key, once it is in the ledger. Raises WorkerDied there, or what experiments.runs.carry_out does."""
        ...


class Place(Protocol):
    """Machines with workers."""

    @property
    def call(self) -> Call:
        """Calls a function on a machine that has workers, with the arguments that follow; raises what it raises."""
        ...

    def num_workers(self, device: str, workers_per_gpu: int) -> int:
        """As many workers as pay."""
        ...

    def executor(
        self, plan: "Plan", num_workers: int, workers_per_gpu: int, stall_s: float
    ) -> AbstractContextManager[Executor]:
        """Workers for the plan's runs. stall_s: seconds without a sign of life until one is replaced; 0: never.

        Raises UserError for what can be known to fail before anything trains.
        """
        ...


def open_place(name: str) -> AbstractContextManager[Place]:
    """The place of that name. Raises UserError for one that nobody knows, or that cannot be had."""
    if name not in PLACES:
        raise UserError(f"executor: {name!r} is unknown; {nearest(name, PLACES)}")
    return cast(AbstractContextManager[Place], importlib.import_module(f"experiments.executors.{name}").open_place())
