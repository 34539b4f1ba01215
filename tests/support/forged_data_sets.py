"""Small archives of CIFAR-10's layout, and a program that takes them for the official one."""

import hashlib
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torchvision.datasets import CIFAR10

from experiments.images.tasks import cifar10

CLASSES = ["airplane", "automobile", "bird"]
BATCHES = {"data_batch_1": (1, 4), "data_batch_2": (2, 3), "test_batch": (3, 2)}
FOLDER = "cifar-10-batches-py"


def pixels_of(seed: int, num_images: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num_images, 32, 32, 3), np.uint8)


def cifar10_files() -> dict[str, bytes]:
    """The pickles by name: two batches for training, one for testing, and the names of the classes."""
    files = {}
    for name, (seed, num_images) in BATCHES.items():
        rows = pixels_of(seed, num_images).transpose(0, 3, 1, 2).reshape(num_images, -1)
        files[name] = as_python_2(rows, [i % 3 for i in range(num_images)])
    return files | {"batches.meta": pickle.dumps({"label_names": CLASSES}, protocol=0)}


def as_python_2(rows_NK: npt.NDArray[np.uint8], labels: Sequence[int]) -> bytes:
    """A batch in the form of the official ones, which Python 2 and a numpy of 2009 wrote: bytes are text."""

    def text(data: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(data)) + data

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"".join(map(number, rows_NK.shape)) + b"\x86"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + 2 * number(-1) + b"K\x00tb"
    state = b"(K\x01" + shape + dtype + b"\x89" + text(rows_NK.tobytes()) + b"tb"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + state + text(b"labels") + listed + b"u."


def pack(files: dict[str, bytes], extra: Sequence[tuple[tarfile.TarInfo, bytes]] = ()) -> bytes:
    """A tar with the files in the official folder, after any other members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        members = [(tarfile.TarInfo(f"{FOLDER}/{name}"), data) for name, data in files.items()]
        for member, data in (*extra, *members):
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def cifar10_archive() -> bytes:
    """A small tar of the official layout."""
    return pack(cifar10_files())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def take_for_official(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the checksums be those of this archive and its files; the address leads nowhere."""
    sums = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.isreg() and Path(member.name).parent == Path(FOLDER):
                file = tar.extractfile(member)
                assert file is not None
                sums[Path(member.name).name] = sha256(file.read())
    monkeypatch.setattr(cifar10, "SHA256", sums)
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", sha256(archive))
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/none.tar.gz")
    monkeypatch.delenv("STN_BENCH_CIFAR10", raising=False)


class Harm:
    """When unpickled, makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)
