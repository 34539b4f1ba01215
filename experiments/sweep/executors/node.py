"""A node of a cluster: makes runs far from the ledger, and tells how they go.

It shares no files with the supervisor. What a run leaves, also on its way, is yielded; the supervisor keeps it.
"""

import atexit
import glob
import importlib.metadata
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.images.tasks.cache import Decoded, cache_folder, held, received
from experiments.networks.variants import LIBRARIES, parse_variant
from experiments.runs.run import Job
from experiments.sweep.executors.local import LOOK_S, LocalExecutor
from ledger.checksums import SUMS
from ledger.errors import UserError
from ledger.files import process_is_alive, write_atomically
from ledger.ledger import Ledger, Unwritable

SAME = ("torch", "torchvision", "numpy")
"""Libraries whose versions the bytes of a run may depend on."""
SEND_S, SEND_BYTES_PER_S = 2.0, 2**20
"""Progress and checkpoints are sent no more often, and take no more of the network: there may be hundreds of runs, and
there is one supervisor."""
SCRATCH = "stn-bench-node"


class Progress(NamedTuple):
    """How far a run is; row: as Ledger.mark_running takes it."""

    row: Mapping[str, Any]


class Kept(NamedTuple):
    """A checkpoint: the name and the bytes of its file."""

    name: str
    content: bytes


class Finished(NamedTuple):
    """What a run has come to; files: as Ledger.commit takes them."""

    files: Mapping[str, bytes]


News = Progress | Kept | Finished


class Misfit(Exception):
    """This machine cannot make the supervisor's runs; the message says why, to follow the machine's name."""


class ImagesWanted(Exception):
    """This machine has not got the task's images, and they have not been brought yet."""


def versions(*more: str) -> dict[str, str]:
    """Versions that must be the same on all machines. What was built for a CPU or a GPU is the same version.

    more: libraries that not all runs depend on.
    """
    libraries = (*SAME, *more)
    installed = {"Python": ".".join(platform.python_version_tuple()[:2])} | dict.fromkeys(libraries, "missing")
    for name in libraries:
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name).split("+")[0]
    return installed


def check_versions(wanted: Mapping[str, str]) -> None:
    """Raises Misfit if this machine has others."""
    installed = versions(*LIBRARIES)
    if other := [name for name in wanted if installed[name] != wanted[name]]:
        there, here = (", ".join(f"{name} {known[name]}" for name in other) for known in (installed, wanted))
        raise Misfit(f"has {there}, and the sweep's machine {here}; install the same on both")


def check_room(num_bytes: int, content_hash: str) -> None:
    """Raises Misfit if the images, of so many bytes when decoded, are not here and there is no room for them."""
    cache = cache_folder().absolute()
    if held(content_hash, cache):
        return
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    if free < num_bytes:
        raise Misfit(
            f"has no room for the images: {num_bytes / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free for "
            f"{cache}; make room, or set STN_BENCH_CACHE to another disk where Ray is started there"
        )


def make_run_on_node(
    job: Job, wanted: Mapping[str, str], fetch: Callable[[], Decoded], kept: Sequence[Kept], stall_s: float
) -> Iterator[News]:
    """Make the run here, in a worker process of its own that is kept for the next one.

    wanted: versions, as `versions` has them, also of LIBRARIES. fetch: brings the task's images, if this machine has
    not got them.
    kept: checkpoints to go on from.
    Raises Misfit, WorkerDied, and what experiments.runs.run.make_run does.
    """
    device, library = job.run.protocol.device, parse_variant(job.run.variant).library
    check_versions({name: version for name, version in wanted.items() if name == library or name not in LIBRARIES})
    if device == "cuda" and not torch.cuda.is_available():
        raise Misfit("has a GPU for Ray, and none for PyTorch; see to its driver, or to a build of torch that fits it")
    cache = cache_folder()
    try:
        received(job.source.content_hash, cache, fetch)
    except UserError as error:  # another machine may have room for them
        raise Misfit(f"cannot keep the images: {error}") from None
    try:
        ledger = _ledger()
        folder = ledger.checkpoints(job.key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for checkpoint in kept:
            write_atomically(folder / checkpoint.name, checkpoint.content)
    except (OSError, Unwritable) as error:
        raise _no_room(error) from None
    executor = _executor(device, stall_s, os.environ.get("CUDA_VISIBLE_DEVICES"))
    future = executor.submit(replace(job, source=replace(job.source, cache=cache), ledger=ledger.root))
    sent, sent_s, size = {checkpoint.name for checkpoint in kept}, time.monotonic(), 0
    row, told_s = None, -math.inf
    while not wait([future], LOOK_S / 2).done:
        now_s = time.monotonic()
        if now_s - told_s >= SEND_S and (now := ledger.running().get(job.key)) and now != row:
            row, told_s = now, now_s
            yield Progress({name: value for name, value in now.items() if name != "pid"})
        if now_s - sent_s >= max(SEND_S, size / SEND_BYTES_PER_S) and (latest := _latest(folder, sent)):
            sent, sent_s, size = {latest.name}, now_s, len(latest.content)
            yield latest
    try:
        future.result()
    except Unwritable as error:
        raise _no_room(error) from None
    finally:
        ledger.forget_running(job.key)
    try:
        run = ledger.folder(job.key)
        files = {path.name: path.read_bytes() for path in sorted(run.iterdir()) if path.name != SUMS}
        ledger.remove(job.key)
    except OSError as error:
        raise _no_room(error) from None
    yield Finished(files)


def _no_room(error: Exception) -> Misfit:
    return Misfit(f"cannot keep runs until they are sent: {error}")


def _latest(folder: Path, sent: set[str]) -> Kept | None:
    """The latest checkpoint in the folder, if it has not been sent."""
    latest = max(folder.glob("epoch-*.safetensors"), default=None)
    with suppress(OSError):  # it has just made way for the next one
        if latest and latest.name not in sent:
            return Kept(latest.name, latest.read_bytes())
    return None


@lru_cache(maxsize=1)
def _ledger() -> Ledger:
    """Where this process's runs lie until they are sent. What killed processes of this host left is removed."""
    prefix = f"{SCRATCH}-{platform.node()}"  # other hosts, whose processes are not known here, may share the disk
    for folder in Path(tempfile.gettempdir()).glob(f"{glob.escape(prefix)}.*.*"):
        owner = folder.name.split(".")[-2]
        if owner.isdigit() and not process_is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
    root = Path(tempfile.mkdtemp(prefix=f"{prefix}.{os.getpid()}."))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return Ledger(root)


_workers: dict[tuple[str, float, str | None], LocalExecutor] = {}


def _executor(device: str, stall_s: float, visible: str | None) -> LocalExecutor:
    """This process's one worker; another one where Ray has given this process another GPU since."""
    if (device, stall_s, visible) not in _workers:
        while _workers:
            _workers.popitem()[1].__exit__(None, None, None)
        _workers[device, stall_s, visible] = LocalExecutor(device, 1, stall_s)
    return _workers[device, stall_s, visible]
