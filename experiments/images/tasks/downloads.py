"""Published data sets: the user's own copy, or fetched once. Only the very bytes that were checked are ever used.

Nothing is unpacked to the disk, and no more is read or fetched than the official files have.
"""

import errno
import hashlib
import http.client
import os
import tarfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.images.tasks.cache import Parts, cached
from experiments.images.tasks.image_files.decoding import fitted
from experiments.images.tasks.progress import Progress
from experiments.images.tasks.reading import Reading
from experiments.images.tasks.task import Images, Say, Task
from experiments.machine.home import user_path
from ledger.errors import UserError

TIMEOUT_S = 20.0
"""Without an answer, and then without a byte, until a download is given up; so long it may also be too slow."""
MIN_BYTES_PER_S = 1024
"""What a download must reach in each TIMEOUT_S: a server may not drip for ever."""

_CHUNK_BYTES = 2**18

NOT_THE_NETWORK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO}
"""Error numbers of a download that come from the disk."""


class DownloadError(UserError):
    """A data set could not be fetched, or what arrived is not the data set; another task can take its place.

    label: what people call the data set.
    """

    def __init__(self, message: str, label: str = "") -> None:
        super().__init__(message)
        self.label = label


Contents = tuple[tuple[str, ...], Images, Images]
"""A whole data set as it was published: class names in label order, training and test images, which are square."""


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    name: of the task. label: what people call it. url: where a download begins, for messages.
    source: JSON value that tells what is read from anything else, by the checksums of the official files.
    expected: the files that make a folder hold the data set, for messages: "neither A nor B".
    fetch: downloads the official files into a folder.
    read: reads the official files in a folder, or returns None if it has none. Raises RuntimeError if one is not
        byte for byte the official one.
    """

    name: str
    label: str
    url: str
    source: dict[str, Any]
    expected: str
    fetch: Callable[[Path, Say], None]
    read: Callable[[Path], Contents | None]

    @property
    def folder_variable(self) -> str:
        """Environment variable: a folder whose official files are taken instead of a download."""
        return f"STN_BENCH_{self.name.upper()}"


def downloaded_task(data_set: DataSet, argument: str, *, image_px: int, cache: Path, say: Say) -> Task:
    """The data set as a task, with poses that are the identity; further arguments as of BuildTask.

    Official files in the folder that the data set's variable names, or in `downloads` of the cache, save the download.
    Raises DownloadError if the images cannot be fetched, UserError if those of the variable's folder are damaged.
    """
    name = data_set.name
    if argument:
        raise UserError(f"task '{name}:{argument}': {name} takes nothing after its name")

    def build(scratch: Path) -> Parts:
        classes, *parts = _given(data_set, cache, say) or _download(data_set, cache, scratch, say)
        side = parts[0].pixels_NHWC.shape[1]
        resized = "" if side == image_px else f", resized to {image_px} x {image_px}"
        source = f"{data_set.label} as published, by the checksums of its files: {side} x {side} px{resized}"
        train, test = (_resized(part, image_px) for part in parts)
        return classes, train, test, Reading((("Source", source),))

    return Task(name, data_set.label, *cached(name, data_set.source | {"image_px": image_px}, cache, build, say))


def fetch(url: str, path: Path, *, max_bytes: int, say: Say) -> None:
    """Download a file, which counts for nothing before its checksum was seen.

    max_bytes: of the official file; what is larger is not fetched to its end.
    Raises OSError or HTTPException from the network, RuntimeError for what is too large, too slow or cut off.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "stn-bench"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response, open(path, "wb") as file:
        promised: int | None = response.length
        num_bytes, window_start, window_bytes, progress = 0, time.monotonic(), 0, Progress(say)
        while chunk := response.read1(_CHUNK_BYTES):
            num_bytes += len(chunk)
            if max(num_bytes, promised or 0) > max_bytes:
                raise RuntimeError(f"the answer is larger than the {max_bytes:,} bytes of the official file")
            file.write(chunk)
            progress(f"{path.name}: {num_bytes / 2**20:,.0f} of {(promised or max_bytes) / 2**20:,.0f} MiB")
            if time.monotonic() - window_start > TIMEOUT_S:
                if num_bytes - window_bytes < MIN_BYTES_PER_S * TIMEOUT_S:
                    raise RuntimeError(f"slower than {MIN_BYTES_PER_S:,} bytes/s")
                window_start, window_bytes = time.monotonic(), num_bytes
    if promised is not None and num_bytes < promised:
        raise RuntimeError(f"the connection was cut after {num_bytes:,} of {promised:,} bytes")


def read_checked(path: Path, checksum: str, max_bytes: int) -> bytes:
    """A file's bytes if they have that checksum, whatever becomes of the file; no more than max_bytes of it are read.

    checksum: 32 or 64 hex digits, of MD5 or SHA-256. Raises RuntimeError for any other file.
    """
    if not path.is_file():  # a pipe or a device would be waited for
        raise RuntimeError(f"{path.name} is not there")
    with open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes > max_bytes:
            raise RuntimeError(f"{path.name} is larger than the official file")
        data = file.read(num_bytes)
    check(path.name, data, checksum)
    return data


def check(name: str, data: bytes, checksum: str) -> None:
    """Raises RuntimeError unless the data have that checksum, as of read_checked; name: of the file, for the error."""
    # No MD5 of a given file has ever been forged; only pairs of new files with the same one can be made.
    digest = hashlib.sha256(data) if len(checksum) == 64 else hashlib.md5(data, usedforsecurity=False)
    if digest.hexdigest() != checksum:
        raise RuntimeError(f"{name}: checksum differs, so it is damaged or not the official file")


def _given(data_set: DataSet, cache: Path, say: Say) -> Contents | None:
    """The official files the user already has; None if there are none, or none that are whole in the cache."""
    variable = data_set.folder_variable
    given = os.environ.get(variable)
    folder = user_path(given, variable) if given else cache / "downloads"
    where = f"{variable}={given!r}"
    try:
        contents = data_set.read(folder)
    except (OSError, RuntimeError) as error:
        if given:
            raise UserError(f"{where}: {data_set.label} cannot be read: {_one_line(error)}") from error
        say(f"{data_set.name}: ignoring damaged files in {folder}: {_one_line(error)}")
        return None
    if given and contents is None:
        raise UserError(f"{where}: has {data_set.expected}")
    return contents


def _download(data_set: DataSet, cache: Path, scratch: Path, say: Say) -> Contents:
    say(f"{data_set.name}: downloading from {data_set.url}, once")
    try:
        data_set.fetch(scratch, lambda line: say(f"{data_set.name}: {line}"))
        contents = data_set.read(scratch)
    except (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno in NOT_THE_NETWORK:
            raise UserError(f"cache {str(cache)!r}: cannot be written: {error.strerror}") from error
        message = f"{data_set.name}: cannot be downloaded from {data_set.url}: {_one_line(error)}"
        raise DownloadError(message, data_set.label) from error
    assert contents is not None, "fetched, and not there"
    return contents


def _resized(part: Images, image_px: int) -> Images:
    if image_px == part.pixels_NHWC.shape[1]:
        return part
    # Pillow has no channels where there is one.
    squeezed = (Image.fromarray(np.squeeze(pixels_HWC)) for pixels_HWC in part.pixels_NHWC)
    resized = [np.asarray(fitted(image, image_px)) for image in squeezed]
    return replace(part, pixels_NHWC=np.stack(resized).reshape(-1, image_px, image_px, part.pixels_NHWC.shape[3]))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
