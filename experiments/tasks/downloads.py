"""Data sets that torchvision downloads: the user's own copy, or fetched once, checked either way."""

import errno
import http.client
import os
import socket
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from experiments.errors import UserError
from experiments.tasks import Images, Say, Task
from experiments.tasks.cache import cached
from experiments.tasks.folder import fit_square

TIMEOUT_S = 20.0
"""Without an answer, and then without a byte, until a download is given up."""

_NOT_THE_NETWORK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO}


class DownloadError(UserError):
    """A data set could not be fetched, or what arrived is not the data set; another task can take its place.

    label: what people call the data set.
    """

    def __init__(self, message: str, label: str = "") -> None:
        super().__init__(message)
        self.label = label


class Part(NamedTuple):
    """One part of a data set as it was published. pixels_NHWC: uint8, RGB, square."""

    pixels_NHWC: npt.NDArray[np.uint8]
    labels: Sequence[int]


class Contents(NamedTuple):
    """A whole data set: class names in label order and the two parts."""

    classes: tuple[str, ...]
    train: Part
    test: Part


@dataclass(frozen=True)
class DataSet:
    """A published data set, and what torchvision knows of it.

    name: of the task. label: what people call it. url: where a download begins, for messages.
    folder_variable: environment variable with a folder whose official files are taken instead of a download.
    files: JSON value that tells the official files from any others, by their checksums.
    expected: the files that make a folder hold the data set, for messages: "neither A nor B".
    fetch: downloads into a folder, once it has checked what arrived.
    read: reads the official files in a folder, or returns None if it has none; unpacks into a second folder, which may
        be the same. Raises RuntimeError if they are damaged.
    """

    name: str
    label: str
    url: str
    folder_variable: str
    files: Any
    expected: str
    fetch: Callable[[Path], object]
    read: Callable[[Path, Path], Contents | None]


def downloaded_task(data_set: DataSet, argument: str, *, image_px: int, cache: Path, say: Say) -> Task:
    """The data set as a task, with poses that are the identity; further arguments as of BuildTask.

    Official files in the folder that the data set's variable names, or in `downloads` of the cache, save the download.
    Raises DownloadError if the images cannot be fetched, UserError if those of the variable's folder are damaged.
    """
    name = data_set.name
    if argument:
        raise UserError(f"task '{name}:{argument}': {name} takes nothing after its name")

    def build(scratch: Path) -> tuple[tuple[str, ...], Images, Images]:
        contents = _given(data_set, cache, scratch, say) or _download(data_set, cache, scratch, say)
        return contents.classes, _images(contents.train, image_px), _images(contents.test, image_px)

    decoded = cached(name, {"files": data_set.files, "image_px": image_px}, cache, build, say)
    return Task(name, data_set.label, decoded.classes, decoded.train, decoded.test, decoded.content_hash)


def _given(data_set: DataSet, cache: Path, scratch: Path, say: Say) -> Contents | None:
    """The official files the user already has; None if there are none, or none that are whole in the cache."""
    own = os.environ.get(data_set.folder_variable)
    folder = Path(own).expanduser() if own else cache / "downloads"
    where = f"{data_set.folder_variable}={own!r}"
    try:
        contents = data_set.read(folder, scratch)
    except (OSError, RuntimeError) as error:
        if own:
            raise UserError(f"{where}: {data_set.label} cannot be read: {_one_line(error)}") from error
        say(f"{data_set.name}: ignoring damaged files in {folder}: {_one_line(error)}")
        return None
    if own and contents is None:
        raise UserError(f"{where}: has {data_set.expected}")
    return contents


def _download(data_set: DataSet, cache: Path, scratch: Path, say: Say) -> Contents:
    say(f"{data_set.name}: downloading from {data_set.url}, once")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # torchvision passes none of its own
    try:
        data_set.fetch(scratch)
        contents = data_set.read(scratch, scratch)
    except (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno in _NOT_THE_NETWORK:
            raise UserError(f"cache {str(cache)!r}: cannot be written: {error.strerror}") from error
        message = f"{data_set.name}: cannot be downloaded from {data_set.url}: {_one_line(error)}"
        raise DownloadError(message, data_set.label) from error
    finally:
        socket.setdefaulttimeout(before)
    assert contents is not None, "fetched, and not there"
    return contents


def _images(part: Part, image_px: int) -> Images:
    pixels_NHWC = part.pixels_NHWC
    if image_px != pixels_NHWC.shape[1]:
        pixels_NHWC = np.stack([np.asarray(fit_square(Image.fromarray(pixels), image_px)) for pixels in pixels_NHWC])
    theta_N23 = np.tile(np.eye(2, 3, dtype=np.float32), (len(pixels_NHWC), 1, 1))
    return Images(pixels_NHWC, np.array(part.labels, np.int64), theta_N23)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
