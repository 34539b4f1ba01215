"""Checkpoints of one run: what training knew after an epoch, so that a killed run goes on from there.

One file each, `epoch-00007-<sha256 of the file>.safetensors`: tensors, and JSON in the file's metadata. Nothing is ever
unpickled, and a file that is not the bytes that its name promises is as good as none. Two generations are kept: the
older one goes only when a newer one was written, flushed and read back.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.machine.device import device_name
from ledger.files import write_atomically

CHECKPOINT_FORMAT = 1
EVERY_S = 1.0
"""Work that may be lost without regret: where epochs are shorter, some are not kept."""
COST_SHARE = 0.03
"""Largest share of a run's time for checkpoints: where one takes long, fewer are made."""


@dataclass(frozen=True)
class Checkpoint:
    """What training knew after its last whole epoch.

    tensors: by name, anywhere. values: plain JSON; its `rows` are the history so far, one row an epoch.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def latest_epoch(folder: Path) -> int:
    """Epochs after which a run with these checkpoints probably goes on, by their names alone; 0 without any."""
    return max((int(path.stem.split("-")[1]) for path in folder.glob("epoch-[0-9]*-*.safetensors")), default=0)


class Checkpoints:
    """The checkpoints of one run in a folder of their own, which is made when there is something to keep.

    A checkpoint counts only for the same run under the same arithmetic: key, version of torch, device, threads.
    No trouble with files ever ends a run: it goes on without.
    """

    def __init__(self, folder: Path, key: str, device: torch.device) -> None:
        self.folder = folder
        self.earlier_s = 0.0
        """Seconds of training that the checkpoint which was found last had taken."""
        self._identity = {
            "format": CHECKPOINT_FORMAT,
            "key": key,
            "torch": torch.__version__,
            "device": device.type,
            "device_name": device_name(device),
            "threads": torch.get_num_threads(),
        }
        self._previous: Path | None = None
        self._start_s = self._last_s = time.perf_counter()
        self._pause_s = EVERY_S

    def found(self) -> Iterator[Checkpoint]:
        """Those that are whole and of this run, the latest first. To be asked when training begins."""
        self._start_s = self._last_s = time.perf_counter()
        for path in sorted(self._files("epoch-*.safetensors"), reverse=True):
            checkpoint = self._read(path)
            if checkpoint:
                self._previous, self.earlier_s = path, checkpoint.values["train_seconds"]
                yield checkpoint
        self._previous, self.earlier_s = None, 0.0

    def due(self) -> bool:
        """Whether the last one is so old that another one is worth its cost."""
        return time.perf_counter() - self._last_s >= self._pause_s

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write it, see that it can be read again, and let go of all but this one and the one before."""
        start = time.perf_counter()
        try:
            path = self._write(checkpoint, self.earlier_s + start - self._start_s)
            if _is_whole(path):
                self._remove(set(self.folder.iterdir()) - {path, self._previous})
                self._previous = path
        except OSError:  # no reason to end a run; a full disk shows when it is committed
            self._remove(self._files(".*"))
        self._last_s = time.perf_counter()
        self._pause_s = max(EVERY_S, (self._last_s - start) / COST_SHARE)

    def _files(self, pattern: str) -> list[Path]:
        try:
            return list(self.folder.glob(pattern))
        except OSError:
            return []

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            with suppress(OSError):
                path.unlink()

    def _write(self, checkpoint: Checkpoint, train_seconds: float) -> Path:
        import safetensors.torch  # what trains without checkpoints does without

        tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
        values = {**checkpoint.values, **self._identity, "train_seconds": train_seconds}
        content = safetensors.torch.save(tensors, metadata={"checkpoint": json.dumps(values, allow_nan=False)})
        epoch = len(checkpoint.values["rows"])
        path = self.folder / f"epoch-{epoch:05}-{hashlib.sha256(content).hexdigest()}.safetensors"
        self.folder.mkdir(exist_ok=True)
        write_atomically(path, content)
        return path

    def _read(self, path: Path) -> Checkpoint | None:
        from safetensors import SafetensorError, safe_open

        try:
            if not _is_whole(path):
                return None
            with safe_open(path, framework="pt") as file:
                values = json.loads(file.metadata()["checkpoint"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            if any(values[name] != value for name, value in self._identity.items()):
                return None
            values["train_seconds"] = float(values["train_seconds"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        return Checkpoint(tensors, values)


def _is_whole(path: Path) -> bool:
    """Whether the file is the bytes that its name promises."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.stem.rpartition("-")[2]
