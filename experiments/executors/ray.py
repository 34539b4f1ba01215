"""A Ray cluster: at RAY_ADDRESS, or made on this machine. The one file that knows of Ray.

A run is a task of Ray's. Ray finds it a node with a free core and, where it trains on one, a share of a GPU, and brings
our code there; experiments/executors/node.py says what happens then. What a run leaves comes back as the items of a
generator, and this process alone writes the ledger.
"""

import logging
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

from experiments.device import here
from experiments.errors import UserError
from experiments.executors import WorkerDied, Workers
from experiments.executors.node import (
    Finished,
    ImagesWanted,
    Kept,
    Misfit,
    News,
    Progress,
    carry_out,
    check_room,
    check_versions,
    versions,
)
from experiments.ledger import Ledger, write_atomically
from experiments.plan import Plan
from experiments.runs import Job, out_of_memory
from experiments.tasks import Say
from experiments.tasks.cache import Decoded

try:
    import ray
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise UserError("executor: Ray is not installed; pip install 'stn-bench[cluster]'") from None

T = TypeVar("T")
Node = dict[str, Any]
"""What `ray.nodes` says of one."""

PACKAGES = ("stn", "baselines", "experiments")
"""What nodes need of this program."""
NUM_LOSSES = 3
"""Losses of a run's process or node, without a new checkpoint between them, after which the run is given up."""
MAX_PENDING = 1000
"""Runs that may wait in Ray's own queue, for nodes that are yet to join."""
LOOK_S, LOOK_AT_NODES_S = 0.5, 5.0
CONNECT_S, JOIN_S, ANSWER_S, LEAVE_S = 5.0, 90.0, 300.0, 4.0
"""In which a machine, a cluster and each of its nodes answers, and in which we leave it. A node may read torch from a
slow disk."""


@contextmanager
def open_place() -> Iterator["Cluster"]:
    """The cluster at RAY_ADDRESS, or one that lasts as long as this. Raises UserError if there is none to be had."""
    address = os.environ.get("RAY_ADDRESS", "")
    leave = threading.Event()
    connected = connect(address, leave)
    try:
        yield Cluster(address)
    finally:
        leave.set()
        connected.join(LEAVE_S)


def connect(address: str, leave: threading.Event) -> threading.Thread:
    """Join the cluster until `leave` is set; "" makes one. Returns the thread that does so.

    Raises UserError if there is no cluster, or one of another version.
    """
    if address:
        check_address(address)
        where: dict[str, Any] = {"address": address}
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        where = {"address": "local", "num_cpus": cores, "include_dashboard": False}
    root = Path(__file__).parents[2]
    code = {"py_modules": [str(root / name) for name in PACKAGES], "excludes": ["**/__pycache__"]}
    joined: Future[None] = Future()

    def join() -> None:
        try:
            ray.init(**where, runtime_env=code, log_to_driver=False, logging_level=logging.CRITICAL)
        except BaseException as error:
            joined.set_exception(error)
            return
        joined.set_result(None)
        leave.wait()  # to Linux, which ends what Ray has started with the thread that started it
        ray.shutdown()

    # Not in the main thread, where Ray would put a handler of its own for SIGTERM, and where nothing could end the wait
    # for what listens and is no cluster.
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    place = f"RAY_ADDRESS: {address}" if address else "executor: Ray on this machine"
    try:
        joined.result(timeout=JOIN_S)
    except TimeoutError:
        raise UserError(f"{place}: has not answered as a Ray cluster for {JOIN_S:g} s; is it one?") from None
    except (exceptions.RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{place}: {' '.join(str(error).split()):.400}") from None
    return thread


def check_address(address: str) -> None:
    """Raises UserError for an address that cannot be right, or where nobody listens."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if "://" in address:
        raise UserError(f"RAY_ADDRESS: {address!r}: run this on a machine of the cluster, and give HOST:PORT")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UserError(f"RAY_ADDRESS: {address!r} is not of the form HOST:PORT, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"RAY_ADDRESS: no cluster answers at {address} ({why}); `ray start --head` there starts one, and without "
            "RAY_ADDRESS this machine is used alone"
        ) from None


def living() -> list[Node]:
    return [node for node in ray.nodes() if node["Alive"]]


def name_of(node: Node) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def num_gpus(node: Node) -> float:
    return float(node["Resources"].get("GPU", 0))


def slots(node: Node, device: str, per_gpu: int) -> int:
    """Runs that the node can make side by side: a core each, and a share of a GPU."""
    cores = int(node["Resources"].get("CPU", 0))
    return min(cores, int(num_gpus(node)) * per_gpu) if device == "cuda" else cores


class Cluster:
    """The place of a Ray cluster. Raises UserError for nodes whose libraries differ from this machine's."""

    def __init__(self, address: str) -> None:
        nodes = living()
        cores, gpus = (int(sum(node["Resources"].get(what, 0) for node in nodes)) for what in ("CPU", "GPU"))
        has = f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}, {cores} cores" + (f", {gpus} GPUs" * bool(gpus))
        self.text = f"Ray {ray.__version__} {f'at {address}' if address else 'on this machine'}: {has}."
        # The same one of several whenever a sweep starts again: the kind that is first by name.
        with_gpus = [node for node in nodes if num_gpus(node)]
        self._measuring = min(with_gpus, key=lambda node: (sorted(node["Resources"]), node["NodeID"]), default=None)
        ask_all(nodes, check_versions, versions())

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """On a node with a GPU, if there are any; else here."""
        if self._measuring is None:
            return here(function, *arguments)
        return ask_all([self._measuring], function, *arguments, num_gpus=0.01)[0]

    def num_workers(self, device: str, asked: int, per_gpu: int) -> int:
        room = sum(slots(node, device, per_gpu) for node in living())
        return max(1, min(asked or room, room))

    def executor(self, plan: Plan, workers: Workers, say: Say) -> "RayExecutor":
        device, task = plan.protocol.device, plan.task
        nodes = living()
        if not any(slots(node, device, workers.per_gpu) for node in nodes):
            lacking = "a GPU and a core" if device == "cuda" else "a core"
            raise UserError(
                f"executor: no node of the cluster has {lacking} for a run; `ray status` says what they have"
            )
        parts = (task.train, task.test)
        size = sum(part.pixels_NHWC.nbytes + part.labels_N.nbytes + part.theta_N23.nbytes for part in parts)
        ask_all(nodes, check_room, size, task.content_hash)
        return RayExecutor(plan, workers, say)


def ask_all(nodes: Sequence[Node], function: Callable[..., T], *arguments: Any, **resources: float) -> list[T]:
    """What the function answers on each node. Raises UserError where one cannot answer, or is a misfit."""
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there, **resources)
        asked.append(task.remote(*arguments))
    ray.wait(asked, num_returns=len(asked), timeout=ANSWER_S)
    answers = []
    for node, answer in zip(nodes, asked, strict=True):
        try:
            answers.append(ray.get(answer, timeout=0))
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            why = str(error.cause) if isinstance(error.cause, Misfit) else f"cannot run stn-bench: {last_line(error)}"
            raise UserError(f"executor: {name_of(node)} {why}") from None
        except exceptions.GetTimeoutError:
            raise UserError(f"executor: {name_of(node)} has not answered for {ANSWER_S:g} s") from None
        except exceptions.RayError as error:
            raise UserError(f"executor: {name_of(node)}: {last_line(error)}") from None
    return answers


def last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


@ray.remote(max_retries=0, max_calls=0)  # a process goes on to the next run, on a GPU as well
def make_run(
    job: Job,
    wanted: Mapping[str, str],
    images: Sequence["ray.ObjectRef[Decoded]"],
    kept: Sequence[Kept],
    stall_s: float,
) -> Iterator[News]:
    """On a node: what experiments/executors/node.py yields."""

    def fetch() -> Decoded:
        if not images:
            raise ImagesWanted
        return ray.get(images[0])

    try:
        yield from carry_out(job, wanted, fetch, kept, stall_s)
    except Misfit as misfit:
        misfit.node_id = ray.get_runtime_context().get_node_id()
        raise


@dataclass
class Run:
    """A run until its future is done. kept: the checkpoint that the last attempt began with."""

    job: Job
    future: "Future[str]"
    kept: str = ""
    num_losses: int = 0


class RayExecutor:
    """Carries out jobs on the cluster. One thread sees to all of them."""

    def __init__(self, plan: Plan, workers: Workers, say: Say) -> None:
        self._device, self._task, self._workers, self._say = plan.protocol.device, plan.task, workers, say
        share = math.floor(1e4 / workers.per_gpu) / 1e4  # as finely as Ray counts
        self._options: dict[str, Any] = {"num_cpus": 1, **({"num_gpus": share} if self._device == "cuda" else {})}
        self._limit = max(workers.number, MAX_PENDING) if workers.may_grow else workers.number
        self._wanted = versions()
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left, self._stopped = True, error is not None  # runs that are left end with the connection
        self._thread.join()

    def _see_to_all(self) -> None:
        try:
            while not (self._stopped or (self._left and not self._under_way and self._queue.empty())):
                self._begin_waiting()
                self._look_at_nodes()
                for generator in self._with_news():
                    self._take(generator)
        except Exception as error:
            lost = error
            if isinstance(error, exceptions.RayError):
                why = last_line(error)
                lost = UserError(f"executor: the cluster was lost ({why}); the same command goes on from here")
            for run in self._under_way.values():
                run.future.set_exception(lost)
            while not self._stopped:
                with suppress(queue.Empty):
                    self._queue.get(timeout=LOOK_S).future.set_exception(lost)

    def _begin_waiting(self) -> None:
        while len(self._under_way) < self._limit:
            try:
                run = self._queue.get(timeout=0 if self._under_way else LOOK_S)
            except queue.Empty:
                return
            self._begin(run)

    def _begin(self, run: Run) -> None:
        kept = latest_checkpoint(run.job)
        run.kept = kept[0].name if kept else ""
        options = dict(self._options)
        if self._misfits:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self._misfits))})"}
        task = self._task
        source = replace(run.job.source, task=task.name, label=task.label, content_hash=task.content_hash)
        call, job = make_run.options(**options), replace(run.job, source=source)
        self._under_way[call.remote(job, self._wanted, self._images, kept, self._workers.stall_s)] = run

    def _with_news(self) -> list["ray.ObjectRefGenerator"]:
        waiting = list(self._under_way)
        if not waiting:
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=LOOK_S, fetch_local=False)
        if ready:  # whoever else has some
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        return list(ready)

    def _take(self, generator: "ray.ObjectRefGenerator") -> None:
        """The next of what a run has to tell."""
        run = self._under_way[generator]
        try:
            news: News = ray.get(next(generator))
        except StopIteration:  # it has told nothing of an end
            del self._under_way[generator]
            self._end(run, exceptions.WorkerCrashedError())
            return
        except Exception as error:
            del self._under_way[generator]
            self._end(run, error)
            return
        job = run.job
        match news:
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
                self._images = [ray.put(Decoded(self._task.classes, self._task.train, self._task.test, ""))]
            self._queue.put(run)
        elif isinstance(cause, Misfit):
            if cause.node_id not in self._misfits:
                self._misfits.add(cause.node_id)
                self._say(f"{name_of(self._nodes[cause.node_id])} {cause}. Runs go elsewhere.")
            self._queue.put(run)
        elif not isinstance(cause, exceptions.RayError):
            run.future.set_exception(cause if isinstance(cause, Exception) else error)
        else:
            kept = latest_checkpoint(run.job)
            run.num_losses = 1 if kept and kept[0].name > run.kept else run.num_losses + 1
            if run.num_losses < NUM_LOSSES:
                self._queue.put(run)
            elif isinstance(cause, exceptions.OutOfMemoryError):
                run.future.set_exception(WorkerDied(out_of_memory(torch.device(self._device))))
            else:
                run.future.set_exception(WorkerDied(f"its node, or Ray's process there, was lost ({NUM_LOSSES} times)"))

    def _look_at_nodes(self) -> None:
        """Say who has joined and who has left."""
        if time.monotonic() - self._looked_s < LOOK_AT_NODES_S:
            return
        self._looked_s = time.monotonic()
        nodes = {node["NodeID"]: node for node in living()}
        for joined in nodes.keys() - self._nodes.keys():
            self._say(f"{name_of(nodes[joined])} has joined the cluster.")
        for left in self._nodes.keys() - nodes.keys():
            self._say(f"{name_of(self._nodes[left])} has left the cluster; its runs go on elsewhere.")
        self._nodes = nodes
        fitting = [node for key, node in nodes.items() if key not in self._misfits]
        stranded = not any(slots(node, self._device, self._workers.per_gpu) for node in fitting)
        if stranded and not self._stranded:
            self._say("No node of the cluster can take a run now; waiting for one to join.")
        self._stranded = stranded


def latest_checkpoint(job: Job) -> list[Kept]:
    """That the ledger has of the run; none if it has none."""
    with suppress(OSError):
        for path in sorted(Ledger(job.ledger, read_only=True).checkpoints(job.key).glob("epoch-*.safetensors"))[-1:]:
            return [Kept(path.name, path.read_bytes())]
    return []


def keep(job: Job, checkpoint: Kept) -> None:
    """Write a checkpoint into the ledger, for the next attempt, and let go of all but it and the one before."""
    folder = Ledger(job.ledger, read_only=True).checkpoints(job.key)
    with suppress(OSError):  # no reason to end a run; a full disk shows when it is committed
        folder.mkdir(exist_ok=True)
        write_atomically(folder / checkpoint.name, checkpoint.content)
        for old in sorted(folder.glob("epoch-*.safetensors"))[:-2]:
            old.unlink()
