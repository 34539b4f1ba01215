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

PLACES = {"local": "local", "ray": "ray.cluster"}
"""By the name of a place, the module of this package with its `open_place`; imported when it is asked for."""


class WorkerDied(RuntimeError):
    """A run was given up: its worker ended, hung or had too little memory in every attempt, as the message says."""


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
    """Machines with workers.

    text: what the machines are, in a line; "" where that needs no saying. processes_here: that a worker takes of this
    machine's memory; 0 where workers are elsewhere. call: calls a function on a machine that has workers, with the
    arguments that follow; raises what it raises.
    """

    text: str
    processes_here: int

    @property
    def call(self) -> "Call": ...

    def num_workers(self, device: str, asked: int, per_gpu: int) -> int:
        """As many workers as are asked for and can be had now; 0 asks for as many as pay."""
        ...

    def executor(self, plan: "Plan", workers: Workers, say: "Say") -> AbstractContextManager[Executor]:
        """Workers for the plan's runs. say: where to tell of machines that come and go.

        Raises UserError for what can be known to fail before anything trains.
        """
        ...


def open_place(name: str) -> AbstractContextManager[Place]:
    """The place of that name. Raises UserError for an unknown one, or one that cannot be had."""
    if name not in PLACES:
        raise UserError(f"executor: {name!r} is unknown; {nearest(name, PLACES)}")
    module = importlib.import_module(f"experiments.sweep.executors.{PLACES[name]}")
    return cast(AbstractContextManager[Place], module.open_place())
