"""The cluster at RAY_ADDRESS, or one of this machine's own.

A run is a task of Ray's (tasks.py). Ray finds it a node with a free core and, where it trains on one, a share of a GPU,
and brings our code there; experiments/sweep/executors/node.py says what happens then.
"""

import atexit
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from experiments.images.tasks import Say
from experiments.machine.cores import lacks_shared_memory, num_cores
from experiments.machine.device import here
from experiments.networks.variants import check_start, parse_variant
from experiments.study.plan import Plan
from experiments.sweep.executors.node import check_room, check_versions, versions
from experiments.sweep.executors.places import Workers
from experiments.sweep.executors.ray.settings import ROOM, choose_folder, prepare
from ledger.errors import UserError
from ledger.wording import count

prepare(os.environ)
try:
    import ray
    from ray import exceptions
    from ray._private import worker as internals
except ImportError:
    raise UserError("executor: Ray is not installed; pip install 'stn-bench[cluster]'") from None

from experiments.sweep.executors.ray.nodes import ask_all, living, num_gpus, slots  # noqa: E402
from experiments.sweep.executors.ray.tasks import RayExecutor  # noqa: E402

if hasattr(internals, "print_to_stdstream"):  # what we say ourselves of nodes would be printed, in colour, in any case
    internals.print_to_stdstream = lambda *arguments, **options: None

T = TypeVar("T")

PACKAGES = ("ledger", "stn", "baselines", "experiments")
"""What nodes need of this program."""
CONNECT_S, JOIN_S = 5.0, 90.0
"""In which a machine and a cluster answer."""
LEAVE_S, HURRY_S = 60.0, 4.0
"""In which we leave it, at leisure and where a command was stopped."""


@contextmanager
def open_place() -> Iterator["Cluster"]:
    """The cluster at RAY_ADDRESS, or one that lasts as long as this. Raises UserError if there is none to be had."""
    address, leave, patience_s = os.environ.get("RAY_ADDRESS", ""), threading.Event(), HURRY_S
    connected = connect(address, leave)
    try:
        yield Cluster(address)
        patience_s = LEAVE_S
    finally:
        leave.set()
        connected.join(patience_s)


def connect(address: str, leave: threading.Event) -> threading.Thread:
    """Join the cluster until `leave` is set; "" makes one. Returns the thread that does so.

    Raises UserError if there is no cluster, or one of another version.
    """
    if address:
        check_address(address)
        where: dict[str, Any] = {"address": address}
    else:
        folder = choose_folder(os.environ)
        where = {
            "address": "local",
            "num_cpus": num_cores(),
            "include_dashboard": False,
            "_temp_dir": str(folder / "ray"),
        }
        if lacks_shared_memory():
            where |= {"_plasma_directory": str(folder), "object_store_memory": ROOM}
    root = Path(__file__).parents[4]
    code = {"py_modules": [str(root / name) for name in PACKAGES], "excludes": ["**/__pycache__"]}
    joined: Future[object] = Future()

    def join() -> None:
        try:
            joined.set_result(ray.init(**where, runtime_env=code, log_to_driver=False, logging_level=logging.CRITICAL))
        except BaseException as error:
            joined.set_exception(error)
            return
        leave.wait()  # to Linux, which ends what Ray has started with the thread that started it
        ray.shutdown()

    # Not in the main thread, where Ray would put a handler of its own for SIGTERM, and where nothing could end the wait
    # for what listens and is not a cluster.
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    place = f"RAY_ADDRESS: {address}" if address else "executor: Ray on this machine"
    try:
        joined.result(timeout=JOIN_S)
    except TimeoutError:
        atexit.register(os._exit, 2)  # Ray's part of the thread that still waits aborts when Python takes itself apart
        raise UserError(f"{place}: has not answered as a Ray cluster for {JOIN_S:g} s; is it one?") from None
    except (exceptions.RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
        hint = "; does this machine have the token of its head, and RAY_AUTH_MODE=token? docs/cluster.md says more"
        hint = hint if isinstance(error, ConnectionError) else ""
        raise UserError(f"{place}: {' '.join(str(error).split()):.400}{hint}") from None
    if threading.current_thread() is threading.main_thread():
        # Ray's C++ has put a handler of its own over Python's: it prints a trace, and aborts at a second signal.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.getsignal(number))
    return thread


def check_address(address: str) -> None:
    """Raises UserError for an address that cannot be right, or where nothing listens."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
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


class Cluster:
    """The place of a Ray cluster. Raises UserError for nodes whose libraries differ from this machine's."""

    def __init__(self, address: str) -> None:
        nodes, self.processes_here = living(), 0 if address else 2  # Ray's process, and the worker that it starts
        cores, gpus = (int(sum(node["Resources"].get(what, 0) for node in nodes)) for what in ("CPU", "GPU"))
        counts = [(len(nodes), "node"), (cores, "core"), *([(gpus, "GPU")] if gpus else [])]
        has = ", ".join(count(number, name) for number, name in counts)
        self.text = f"Ray {ray.__version__} {f'at {address}' if address else 'on this machine'}: {has}."
        ask_all(nodes, check_versions, versions())
        # Of several, the kind that is first by name: whenever a sweep starts again, it is measured on the same one.
        with_gpus = sorted(filter(num_gpus, nodes), key=lambda node: (sorted(node["Resources"]), node["NodeID"]))
        fit = (node for node in with_gpus if ask_all([node], torch.cuda.is_available, num_gpus=0.01)[0])
        self._measuring = next(fit, next(iter(with_gpus), None))

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """On a node with a GPU, if there are any; else here."""
        if self._measuring is None:
            return here(function, *arguments)
        return ask_all([self._measuring], function, *arguments, num_gpus=0.01)[0]

    def num_workers(self, device: str, asked: int, per_gpu: int) -> int:
        room = sum(slots(node, device, per_gpu) for node in living())
        return max(1, min(asked or room, room))

    def executor(self, plan: Plan, workers: Workers, say: Say) -> "RayExecutor":
        device = plan.protocol.device
        takers = [node for node in living() if slots(node, device, workers.per_gpu)]
        if not takers:
            lacking = "a GPU and a core" if device == "cuda" else "a core"
            raise UserError(
                f"executor: no node of the cluster has {lacking} for a run; `ray status` says what they have"
            )
        ask_all(takers, check_room, plan.task.num_bytes, plan.task.content_hash)
        if names := [arm.variant for arm in plan.arms if parse_variant(arm.variant).library]:
            ask_all(takers, check_start, names)
        if self.processes_here:
            workers = replace(workers, limit=workers.number)  # for which there is memory
        return RayExecutor(plan, workers, say)
