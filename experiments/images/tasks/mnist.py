"""MNIST: downloaded, checked and decoded once."""

import math
import struct
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.images.tasks.downloads import (
    NOT_THE_NETWORK,
    Contents,
    DataSet,
    check,
    downloaded_task,
    fetch,
    read_checked,
)
from experiments.images.tasks.task import TASKS, Images, Say, Task
from ledger.config import Fit

UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Checksums of the unpacked files, by name; torchvision knows those of the packed ones only, which end in .gz."""

MAX_PACKED_BYTES, MAX_BYTES = 10_000_000, 50_000_000
"""The largest files have 9,912,422 bytes packed, 47,040,016 unpacked."""


@TASKS.register("mnist")
def mnist(argument: str, *, image_px: int, fit: Fit, cache: Path, say: Say) -> Task:
    """70,000 handwritten digits, 28 px, white on black, in one channel; downloaded once.

    Arguments as of BuildTask. Poses are the identity.

    Official files in $STN_BENCH_MNIST or in `downloads` of the cache save the download.
    Raises DownloadError if the images cannot be fetched, UserError if those in $STN_BENCH_MNIST are damaged.
    """
    from torchvision.datasets import MNIST  # seconds to import, and only needed here

    data_set = DataSet(
        name="mnist",
        label="MNIST",
        url=MNIST.mirrors[0],
        source={"files": UNPACKED_MD5, "channels": 1},  # earlier versions kept its grey in three
        expected=f"neither MNIST/raw/ nor {MNIST.resources[0][0]}",
        fetch=_fetch,
        read=_read,
    )
    return downloaded_task(data_set, argument, image_px=image_px, cache=cache, say=say)


def _fetch(folder: Path, say: Say) -> None:
    """Each file from the first mirror that has it whole. Raises RuntimeError with what every mirror said."""
    from torchvision.datasets import MNIST

    for name, checksum in MNIST.resources:
        failures = []
        for mirror in MNIST.mirrors:
            try:
                fetch(f"{mirror}{name}", folder / name, max_bytes=MAX_PACKED_BYTES, say=say)
                read_checked(folder / name, checksum, MAX_PACKED_BYTES)
                break
            except (RuntimeError, HTTPException, OSError) as error:
                if isinstance(error, OSError) and error.errno in NOT_THE_NETWORK:
                    raise
                failures.append(f"{mirror}: {error}")
        else:
            raise RuntimeError(f"{name}: {'; '.join(failures)}")


def _read(folder: Path) -> Contents | None:
    from torchvision.datasets import MNIST

    raw = folder / "MNIST/raw"
    if not raw.is_dir():
        raw = folder
        if not any((raw / name).is_file() or (raw / f"{name}.gz").is_file() for name in UNPACKED_MD5):
            return None
    arrays = []
    for packed_name, packed_md5 in MNIST.resources:
        packed, path = raw / packed_name, raw / packed_name.removesuffix(".gz")
        if path.is_file():
            data = read_checked(path, UNPACKED_MD5[path.name], MAX_BYTES)
        elif packed.is_file():
            data = _unpacked(packed_name, read_checked(packed, packed_md5, MAX_PACKED_BYTES))
            check(path.name, data, UNPACKED_MD5[path.name])
        else:
            raise RuntimeError(f"neither {path.name} nor {packed.name} is there")
        arrays.append(_array(path.name, data))
    parts = (arrays[:2], arrays[2:])
    train, test = (Images.upright(images_NHW[..., None], labels_N.tolist()) for images_NHW, labels_N in parts)
    return tuple("0123456789"), train, test


def _unpacked(name: str, packed: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)  # gzip
    try:
        data = stream.decompress(packed, MAX_BYTES)
    except zlib.error as error:
        raise RuntimeError(f"{name}: {error}") from error
    if not stream.eof:
        raise RuntimeError(f"{name}: is cut off, or larger than {MAX_BYTES:,} bytes when unpacked")
    return data


def _array(name: str, data: bytes) -> npt.NDArray[np.uint8]:
    """The bytes behind the header of an idx file, in the shape that it says: of three numbers for images, else one."""
    num_dims = 3 if "images" in name else 1
    header = 4 + 4 * num_dims
    if len(data) < header:
        raise RuntimeError(f"{name}: has no header")
    magic, *shape = struct.unpack(f">{1 + num_dims}I", data[:header])
    if magic != 0x800 + num_dims or math.prod(shape) != len(data) - header:
        raise RuntimeError(f"{name}: its header does not fit its {len(data):,} bytes")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
