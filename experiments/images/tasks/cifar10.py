"""CIFAR-10: downloaded, checked and decoded once. Its files are pickles, which can hold code: none is ever run."""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.images.tasks.downloads import Contents, DataSet, check, downloaded_task, fetch, read_checked
from experiments.images.tasks.task import TASKS, Images, Say, Task
from ledger.config import Fit

ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
"""As Keras publishes it."""
ARCHIVE_BYTES = 170_498_071

SHA256 = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
}
"""Checksums of the files in the archive, by name. Torchvision knows their MD5 only."""
MAX_FILE_BYTES = 2**25
"""The largest of them has 31,035,999."""


@TASKS.register("cifar10")
def cifar10(argument: str, *, image_px: int, fit: Fit, cache: Path, say: Say) -> Task:
    """60,000 photographs of animals and vehicles in ten classes, 32 px; downloaded once.

    Arguments as of BuildTask. Poses are the identity.

    Official files in $STN_BENCH_CIFAR10 or in `downloads` of the cache save the download.
    Raises DownloadError if the images cannot be fetched, UserError if those in $STN_BENCH_CIFAR10 are damaged.
    """
    from torchvision.datasets import CIFAR10  # seconds to import, and only needed here

    data_set = DataSet(
        name="cifar10",
        label="CIFAR-10",
        url=CIFAR10.url,
        source={"files": [CIFAR10.tgz_md5, CIFAR10.train_list, CIFAR10.test_list, CIFAR10.meta]},
        expected=f"neither {CIFAR10.base_folder}/ nor {CIFAR10.filename}",
        fetch=lambda folder, say: fetch(CIFAR10.url, folder / CIFAR10.filename, max_bytes=ARCHIVE_BYTES, say=say),
        read=_read,
    )
    return downloaded_task(data_set, argument, image_px=image_px, cache=cache, say=say)


def _read(folder: Path) -> Contents | None:
    from torchvision.datasets import CIFAR10

    archive, unpacked = folder / CIFAR10.filename, folder / CIFAR10.base_folder
    if unpacked.is_dir():
        files = {name: read_checked(unpacked / name, checksum, MAX_FILE_BYTES) for name, checksum in SHA256.items()}
    elif archive.is_file():
        files = dict(_members(archive, f"{CIFAR10.base_folder}/"))
    else:
        return None
    if missing := sorted(SHA256.keys() - files):
        raise RuntimeError(f"{archive.name} has no {missing[0]}")
    batches = {name: _unpickled(name, files[name]) for name in SHA256}
    try:
        names = tuple(map(str, batches.pop("batches.meta")["label_names"]))
        test = _images([batches.pop("test_batch")])
        return names, _images(list(batches.values())), test
    except (LookupError, TypeError, ValueError) as error:
        raise RuntimeError(f"not the official contents: {error}") from error


def _members(archive: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """The checked files in the official archive by their names below the prefix; nothing is written anywhere."""
    with open(archive, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != ARCHIVE_SHA256:
            raise RuntimeError(f"{archive.name}: checksum differs, so it is damaged or not the official file")
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix(prefix)
                if not member.isreg() or name not in SHA256 or member.name != prefix + name:
                    continue
                if member.size > MAX_FILE_BYTES:
                    raise RuntimeError(f"{name} is larger than the official file")
                content = tar.extractfile(member)
                assert content is not None, "a regular file"
                data = content.read()
                check(name, data, SHA256[name])
                yield name, data


class _Arrays(pickle.Unpickler):
    """Loads arrays, numbers, text and containers. A pickle that names anything else is refused before it is called."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]  # the function itself, wherever this numpy keeps it
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"names {module}.{name}, which is not an array")


def _unpickled(name: str, data: bytes) -> Any:
    try:
        return _Arrays(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a torn pickle raises a dozen kinds
        raise RuntimeError(f"{name}: cannot be loaded: {error}") from error


def _images(batches: list[Any]) -> Images:
    pixels_NCHW = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [int(label) for batch in batches for label in batch["labels"]]
    return Images.upright(np.ascontiguousarray(pixels_NCHW.transpose(0, 2, 3, 1)), labels)
