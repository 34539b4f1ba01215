"""CIFAR-10 through torchvision: downloaded, checked and decoded once."""

import errno
import http.client
import os
import socket
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from experiments.errors import UserError
from experiments.tasks import TASKS, Images, Say, Task
from experiments.tasks.cache import cached
from experiments.tasks.folder import fit_square

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

TIMEOUT_S = 20.0
"""Without an answer, and then without a byte, until a download is given up."""
FOLDER_VARIABLE = "STN_BENCH_CIFAR10"
"""Environment variable: a folder that has the official archive or its unpacked files, taken instead of a download."""

_NOT_THE_NETWORK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO}


class DownloadError(UserError):
    """CIFAR-10 could not be fetched, or what arrived is not CIFAR-10; another task can take its place."""


@TASKS.register("cifar10")
def cifar10(argument: str, *, image_px: int, cache: Path, say: Say) -> Task:
    """60,000 photographs of animals and vehicles in ten classes, 32 px; downloaded once.

    Arguments as of BuildTask. Poses are the identity.

    Official files in $STN_BENCH_CIFAR10 or in `downloads` of the cache save the download.
    Raises DownloadError if the images cannot be fetched, UserError if those in $STN_BENCH_CIFAR10 are damaged.
    """
    if argument:
        raise UserError(f"task 'cifar10:{argument}': cifar10 takes nothing after its name")
    from torchvision.datasets import CIFAR10  # seconds to import, and only needed here

    def build(scratch: Path) -> tuple[tuple[str, ...], Images, Images]:
        train, test = _given(cache, scratch, say) or _download(scratch, say)
        return tuple(train.classes), _images(train, image_px), _images(test, image_px)

    source = {"files": [CIFAR10.tgz_md5, CIFAR10.train_list, CIFAR10.test_list, CIFAR10.meta], "image_px": image_px}
    decoded = cached("cifar10", source, cache, build, say)
    return Task("cifar10", "CIFAR-10", decoded.classes, decoded.train, decoded.test, decoded.content_hash)


def _parts(root: Path) -> tuple["CIFAR10", "CIFAR10"]:
    """Raises RuntimeError if the unpacked files are not there or have other checksums."""
    from torchvision.datasets import CIFAR10

    return CIFAR10(root, train=True), CIFAR10(root, train=False)


def _given(cache: Path, scratch: Path, say: Say) -> tuple["CIFAR10", "CIFAR10"] | None:
    """The official files the user already has; None if there are none, or none that are whole in the cache."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, extract_archive

    own = os.environ.get(FOLDER_VARIABLE)
    folder = Path(own).expanduser() if own else cache / "downloads"
    archive = folder / CIFAR10.filename
    try:
        if (folder / CIFAR10.base_folder).is_dir():
            return _parts(folder)
        if archive.is_file():
            if not check_integrity(archive, CIFAR10.tgz_md5):
                raise RuntimeError("checksum differs")
            extract_archive(archive, scratch)
            return _parts(scratch)
    except (OSError, RuntimeError) as error:
        if own:
            raise UserError(f"{FOLDER_VARIABLE}={own!r}: CIFAR-10 cannot be read: {_one_line(error)}") from error
        say(f"cifar10: ignoring damaged files in {folder}: {_one_line(error)}")
        return None
    if own:
        raise UserError(f"{FOLDER_VARIABLE}={own!r}: has neither {CIFAR10.base_folder}/ nor {CIFAR10.filename}")
    return None


def _download(scratch: Path, say: Say) -> tuple["CIFAR10", "CIFAR10"]:
    from torchvision.datasets import CIFAR10

    say(f"cifar10: downloading from {CIFAR10.url}, once")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # torchvision passes none of its own
    try:
        CIFAR10(scratch, train=True, download=True)
        return _parts(scratch)
    except (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno in _NOT_THE_NETWORK:
            raise UserError(f"cache {str(scratch.parent.parent)!r}: cannot be written: {error.strerror}") from error
        raise DownloadError(f"cifar10: cannot be downloaded from {CIFAR10.url}: {_one_line(error)}") from error
    finally:
        socket.setdefaulttimeout(before)


def _images(dataset: "CIFAR10", image_px: int) -> Images:
    pixels_NHWC: npt.NDArray[np.uint8] = dataset.data
    if image_px != pixels_NHWC.shape[1]:
        pixels_NHWC = np.stack([np.asarray(fit_square(Image.fromarray(pixels), image_px)) for pixels in pixels_NHWC])
    theta_N23 = np.tile(np.eye(2, 3, dtype=np.float32), (len(pixels_NHWC), 1, 1))
    return Images(pixels_NHWC, np.array(dataset.targets, np.int64), theta_N23)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
