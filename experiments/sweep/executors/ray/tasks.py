"""Runs as tasks of Ray's. What they leave comes back as the items of a generator; this process writes the ledger."""

import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray import exceptions

from experiments.images.tasks import Say
from experiments.images.tasks.cache import Decoded, decoded
from experiments.networks.variants import LIBRARIES
from experiments.runs.run import Job, out_of_memory
from experiments.study.plan import Plan
from experiments.sweep.executors.node import (
    Finished,
    ImagesWanted,
    Kept,
    Misfit,
    News,
    Progress,
    make_run_on_node,
    versions,
)
from experiments.sweep.executors.places import WorkerDied, Workers
from experiments.sweep.executors.ray.nodes import last_line, living, name_of, slots
from ledger.errors import UserError
from ledger.files import write_atomically
from ledger.ledger import Ledger

NUM_LOSSES = 3
"""Losses of a run's process or node, without a new checkpoint between them, after which the run is given up."""
MAX_PENDING = 1000
"""Runs that may wait in Ray's own queue, for nodes that are yet to join."""
MAX_UNREAD = 4
"""Items of a run that may wait to be read; until then it sends no more. It trains on meanwhile."""
LOOK_S, LOOK_AT_NODES_S = 0.5, 5.0


class Begun(NamedTuple):
    """A run has come to a node."""

    node_id: str


@ray.remote(max_retries=0, max_calls=0)  # a process goes on to the next run, on a GPU as well
def make_run_by_ray(
    job: Job,
    wanted: Mapping[str, str],
    images: Sequence["ray.ObjectRef[Decoded]"],
    kept: Sequence[Kept],
    stall_s: float,
) -> Iterator[Begun | News]:
    """On a node: where that is, then what experiments/sweep/executors/node.py yields."""

    def fetch() -> Decoded:
        if not images:
            raise ImagesWanted
        return ray.get(images[0])

    yield Begun(ray.get_runtime_context().get_node_id())
    yield from make_run_on_node(job, wanted, fetch, kept, stall_s)


@dataclass
class Run:
    """A run until its future is done.

    kept, node_id: of its last attempt, the checkpoint that it began with, and the node that it has come to.
    num_losses, lost_on: since its last new checkpoint.
    """

    job: Job
    future: "Future[str]"
    kept: str = ""
    node_id: str = ""
    num_losses: int = 0
    lost_on: set[str] = field(default_factory=set)


class RayExecutor:
    """Carries out jobs on the cluster. One thread sees to all of them."""

    def __init__(self, plan: Plan, workers: Workers, say: Say) -> None:
        self._device, self._task, self._workers, self._say = plan.protocol.device, plan.task, workers, say
        share = math.floor(1e4 / workers.per_gpu) / 1e4  # as finely as Ray counts
        self._options: dict[str, Any] = {"num_cpus": 1, "_generator_backpressure_num_objects": MAX_UNREAD}
        if self._device == "cuda":
            self._options["num_gpus"] = share
        self._limit = workers.limit or max(workers.number, MAX_PENDING)
        self._wanted = versions(*LIBRARIES)
        self._images: list[ray.ObjectRef[Decoded]] = []
        self._queue: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._under_way: dict[ray.ObjectRefGenerator, Run] = {}
        self._nodes = {node["NodeID"]: node for node in living()}
        self._misfits: set[str] = set()
        self._looked_s, self._stranded = time.monotonic(), False
        self._left, self._stopped = False, False
        self._thread = threading.Thread(target=self._see_to_all, name="ray", daemon=True)

    def submit(self, job: Job) -> "Future[str]":
        run = Run(job, Future())
        self._queue.put(run)
        return run.future

    def __enter__(self) -> "RayExecutor":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._left, self._stopped = True, error is not None  # runs that are left end with the connection
        self._thread.join()

    def _see_to_all(self) -> None:
        try:
            while not (self._stopped or (self._left and not self._under_way and self._queue.empty())):
                self._begin_waiting()
                self._look_at_nodes()
                for generator in self._with_news():
                    self._take(generator)
        except BaseException as error:  # whatever it is, the runs are waited for
            lost = error if isinstance(error, Exception) else RuntimeError(repr(error))
            if isinstance(error, exceptions.RayError):
                lost = UserError(f"executor: Ray failed ({last_line(error)}); the same command goes on from here")
            for run in self._under_way.values():
                run.future.set_exception(lost)
            while not (self._stopped or (self._left and self._queue.empty())):
                with suppress(queue.Empty):
                    self._queue.get(timeout=LOOK_S).future.set_exception(lost)

    def _begin_waiting(self) -> None:
        while len(self._under_way) < self._limit:
            try:
                run = self._queue.get(timeout=0 if self._under_way else LOOK_S)
            except queue.Empty:
                return
            try:
                self._begin(run)
            except Exception:
                self._queue.put(run)
                raise

    def _begin(self, run: Run) -> None:
        kept = latest_checkpoint(run.job)
        run.kept, run.node_id = kept[0].name if kept else "", ""
        avoided = self._misfits | run.lost_on
        if not self._is_room_beside(avoided):
            avoided = self._misfits
        elsewhere = {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(avoided))})"}} if avoided else {}
        task = self._task
        source = replace(run.job.source, task=task.name, label=task.label, content_hash=task.content_hash)
        call, job = make_run_by_ray.options(**self._options, **elsewhere), replace(run.job, source=source)
        self._under_way[call.remote(job, self._wanted, self._images, kept, self._workers.stall_s)] = run

    def _with_news(self) -> list["ray.ObjectRefGenerator"]:
        """Those that have something to tell by then."""
        waiting = list(self._under_way)
        if waiting and ray.wait(waiting, num_returns=1, timeout=LOOK_S)[0]:
            return list(ray.wait(waiting, num_returns=len(waiting), timeout=0)[0])
        return []

    def _take(self, generator: "ray.ObjectRefGenerator") -> None:
        """The next of what a run has to tell."""
        run = self._under_way[generator]
        try:
            news: Begun | News = ray.get(next(generator))
        except Exception as error:
            if isinstance(error, StopIteration):  # it has told nothing of an end
                error = exceptions.WorkerCrashedError()
            elif not isinstance(error, exceptions.RayTaskError):  # it may still be at work
                with suppress(exceptions.RayError):
                    ray.cancel(generator, force=True)
            self._end(run, error)
            del self._under_way[generator]  # not before: whatever is raised, the run's future is waited for
            return
        job = run.job
        match news:
            case Begun(node_id):
                run.node_id = node_id
            case Progress(row):
                Ledger(job.ledger, read_only=True).mark_running(job.key, row)
            case Kept():
                keep(job, news)
            case Finished(files):
                del self._under_way[generator]
                try:
                    Ledger(job.ledger).commit(job.key, files)
                except Exception as error:
                    run.future.set_exception(error)
                else:
                    run.future.set_result(job.key)

    def _end(self, run: Run, error: Exception) -> None:
        """Begin a run again that its node, or Ray, has lost; any other error is the run's own."""
        cause = error.cause if isinstance(error, exceptions.RayTaskError) else error
        if isinstance(cause, ImagesWanted):
            if not self._images:
                self._images = [ray.put(decoded(self._task))]
            self._queue.put(run)
        elif isinstance(cause, Misfit):
            self._avoid(run.node_id, str(cause))
            self._queue.put(run)
        elif isinstance(cause, exceptions.LocalRayletDiedError | exceptions.RuntimeEnvSetupError):
            raise cause  # no run's fault, and each of them would meet it
        elif isinstance(cause, exceptions.RayError | WorkerDied):
            self._lose(run, cause)
        elif isinstance(error, exceptions.RayTaskError) and not run.node_id and (node_id := self._node_at(error.ip)):
            self._avoid(node_id, f"cannot run stn-bench: {last_line(error)}")  # it has not come to our first line
            self._queue.put(run)
        else:
            run.future.set_exception(cause if isinstance(cause, Exception) else error)

    def _lose(self, run: Run, cause: Exception) -> None:
        """Begin a run again, elsewhere if that can be, until it was lost too often."""
        kept = latest_checkpoint(run.job)
        if kept and kept[0].name != run.kept:
            run.num_losses, run.lost_on = 0, set()
        run.num_losses += 1
        run.lost_on |= {run.node_id} - {""}
        died = isinstance(cause, WorkerDied)  # as it would here, where there are no more attempts
        if run.num_losses < NUM_LOSSES and not (died and not self._is_room_beside(self._misfits | run.lost_on)):
            self._queue.put(run)
        elif died:
            run.future.set_exception(cause)
        elif isinstance(cause, exceptions.OutOfMemoryError):
            run.future.set_exception(WorkerDied(out_of_memory(torch.device(self._device))))
        else:
            run.future.set_exception(WorkerDied(f"its node, or Ray's process there, was lost ({NUM_LOSSES} times)"))

    def _avoid(self, node_id: str, why: str) -> None:
        if node_id not in self._misfits:
            self._misfits.add(node_id)
            name = next((name_of(node) for node in living() if node["NodeID"] == node_id), "A node")
            self._say(f"{name} {why}. Runs go elsewhere.")

    def _look_at_nodes(self) -> None:
        """Say who has joined and who has left."""
        if time.monotonic() - self._looked_s < LOOK_AT_NODES_S:
            return
        self._looked_s = time.monotonic()
        known, self._nodes = self._nodes, {node["NodeID"]: node for node in living()}
        for joined in self._nodes.keys() - known.keys():
            self._say(f"{name_of(self._nodes[joined])} has joined the cluster.")
        for left in (gone := known.keys() - self._nodes.keys()):
            self._say(f"{name_of(known[left])} has left the cluster; its runs go on elsewhere.")
        if gone:
            self._begin_again(gone)
        stranded = not self._is_room_beside(self._misfits)
        if stranded and not self._stranded:
            self._say("No node of the cluster can take a run now; waiting for one to join.")
        self._stranded = stranded

    def _begin_again(self, left: Set[str]) -> None:
        """Runs of nodes that have left: not all that is lost with a node is told by Ray."""
        for generator, run in list(self._under_way.items()):
            if run.node_id in left:
                self._end(run, exceptions.NodeDiedError("left"))
            elif not run.node_id:  # it may have been on its way there, or wait for no other node
                ray.cancel(generator, force=True)
                self._queue.put(run)
            else:
                continue
            del self._under_way[generator]

    def _is_room_beside(self, avoided: Set[str]) -> bool:
        """Whether a node that is not avoided can ever take a run."""
        others = (node for key, node in self._nodes.items() if key not in avoided)
        return any(slots(node, self._device, self._workers.per_gpu) for node in others)

    def _node_at(self, address: str) -> str:
        return next((str(node["NodeID"]) for node in living() if node["NodeManagerAddress"] == address), "")


def latest_checkpoint(job: Job) -> list[Kept]:
    """That the ledger has of the run; none if it has none."""
    with suppress(OSError):
        for path in in_order(Ledger(job.ledger, read_only=True).checkpoints(job.key))[-1:]:
            return [Kept(path.name, path.read_bytes())]
    return []


def in_order(folder: Path) -> list[Path]:
    """Checkpoints as they came. Their epochs may go back: on another kind of machine a run begins anew."""
    return sorted(folder.glob("epoch-*.safetensors"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def keep(job: Job, checkpoint: Kept) -> None:
    """Write a checkpoint into the ledger, for the next attempt, and let go of all but it and the one before."""
    folder = Ledger(job.ledger, read_only=True).checkpoints(job.key)
    with suppress(OSError):  # no reason to end a run; a full disk shows when it is committed
        folder.mkdir(exist_ok=True)
        write_atomically(folder / checkpoint.name, checkpoint.content)
        for old in in_order(folder)[:-2]:
            old.unlink()
