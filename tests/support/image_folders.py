"""Image folders that tests make, and what becomes of them."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from experiments.images.tasks import Images, Task, load_task
from ledger.config import Fit
from ledger.errors import UserError

CLASSES = ("ant", "bee", "cat")


def pixels_of(seed: int, height: int = 16, width: int = 16) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, pixels_HWC: npt.NDArray[np.uint8], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_HWC).save(path, **options)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colours: int, *chunks: bytes) -> bytes:
    """A PNG of these chunks. bits: of a channel. colours: the header's number for them, such as 2 for RGB."""
    header = png_chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def make_parts(root: Path, per_class: int = 3) -> Path:
    """train/ and test/, every image a PNG of its own random pixels."""
    for p, part in enumerate(("train", "test")):
        for c, name in enumerate(CLASSES):
            for i in range(per_class):
                save(root / part / name / f"{i}.png", pixels_of(100 * p + 10 * c + i))
    return root


def make_classes(root: Path, per_class: int = 10) -> Path:
    for c, name in enumerate(CLASSES):
        for i in range(per_class):
            save(root / name / f"{i:02}.png", pixels_of(100 * c + i))
    return root


def load(
    root: Path | str,
    cache: Path,
    image_px: int = 16,
    say: Callable[[str], None] = lambda line: None,
    fit: Fit = "crop",
) -> Task:
    return load_task(f"folder:{root}", image_px=image_px, fit=fit, cache=cache, say=say)


def refusal(root: Path | str, cache: Path, image_px: int = 16) -> str:
    with pytest.raises(UserError) as error:
        load(root, cache, image_px)
    assert "\n" not in str(error.value)
    assert not cache.exists() or not list(cache.iterdir())
    return str(error.value)


def one_image(tmp_path: Path, write: Callable[[Path], object], name: str, image_px: int = 16) -> npt.NDArray[np.uint8]:
    """The pixels that an image file becomes, as the first of a small task."""
    root = make_parts(tmp_path / "images")
    write(root / "train/ant" / name)
    task = load(root, tmp_path / "cache", image_px)
    assert len(task.train) == 10
    index = sorted([f"train/ant/{name}", "train/ant/0.png", "train/ant/1.png", "train/ant/2.png"])
    pixels_HWC: npt.NDArray[np.uint8] = task.train.pixels_NHWC[index.index(f"train/ant/{name}")]
    return pixels_HWC


def pixel_set(images: Images) -> set[bytes]:
    return {pixels.tobytes() for pixels in images.pixels_NHWC}
