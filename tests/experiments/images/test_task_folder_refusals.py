"""`folder:PATH`: what is refused, and how it is said."""

import shutil
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from experiments.images.tasks import folder as folder_module
from experiments.images.tasks import progress
from experiments.images.tasks.image_files.decoding import Picture, decode
from experiments.images.tasks.reading import ToRgb
from ledger.config import Fit
from tests.support.image_folders import load, make_classes, make_parts, one_image, pixels_of, refusal, save


def test_too_few_to_split(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images", 5)
    assert np.bincount(load(root, tmp_path / "a").test.labels_N).tolist() == [1] * 3
    (root / "bee/00.png").unlink()
    assert "class 'bee' has 4 images, too few to split" in refusal(root, tmp_path / "cache")


def test_missing_and_wrong_folders(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    make_parts(tmp_path / "flowers")
    said = refusal(tmp_path / "flower", cache)
    assert "does not exist; did you mean 'flowers'?" in said
    assert str(tmp_path / "flower") in said
    assert refusal(tmp_path / "no/where", cache).endswith("does not exist")
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refusal(tmp_path / "file", cache)
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty", cache).endswith("is empty")
    (tmp_path / "texts/a").mkdir(parents=True)
    (tmp_path / "texts/a/x.txt").write_text("")
    assert "has no images in class folders" in refusal(tmp_path / "texts", cache)
    save(tmp_path / "flat/1.png", pixels_of(1))
    assert "has no images in class folders" in refusal(tmp_path / "flat", cache)
    save(tmp_path / "half/train/a/1.png", pixels_of(1))
    assert "has no test/ beside train/" in refusal(tmp_path / "half", cache)


def test_too_few_classes(classes: Path, tmp_path: Path) -> None:
    shutil.rmtree(classes / "ant")
    shutil.rmtree(classes / "bee")
    assert "only one class, 'cat'" in refusal(classes, tmp_path / "cache")
    (classes / "dog").mkdir()
    assert "class 'dog' has no images" in refusal(classes, tmp_path / "cache")


def test_parts_with_other_classes(parts: Path, tmp_path: Path) -> None:
    (parts / "test/cat").rename(parts / "test/cats")
    assert refusal(parts, tmp_path / "cache").endswith("'cat' only in train/; 'cats' only in test/")
    shutil.rmtree(parts / "test/cats")
    assert refusal(parts, tmp_path / "cache").endswith("'cat' only in train/")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_without_images(part: str, parts: Path, tmp_path: Path) -> None:
    for path in (parts / part / "bee").iterdir():
        path.unlink()
    assert f"class 'bee' has no images in {part}/" in refusal(parts, tmp_path / "cache")


def test_broken_images_are_counted_and_the_first_is_named(parts: Path, tmp_path: Path) -> None:
    (parts / "train/cat/0.png").write_bytes(b"")
    (parts / "test/ant/1.png").write_text("no image at all")
    whole = (parts / "train/bee/2.png").read_bytes()
    (parts / "train/bee/2.png").write_bytes(whole[: len(whole) // 2])
    said = refusal(parts, tmp_path / "cache")
    assert "3 of 18 images cannot be read, first 'test/ant/1.png': not an image" in said
    assert said.endswith("; then 'train/bee/2.png', 'train/cat/0.png'")
    (parts / "test/ant/1.png").unlink()
    (parts / "train/cat/0.png").unlink()
    said = refusal(parts, tmp_path / "cache")
    assert "1 of 16 images cannot be read, first 'train/bee/2.png': " in said
    assert "truncated" in said


def test_a_link_to_nothing(parts: Path, tmp_path: Path) -> None:
    (parts / "train/bee/9.png").symlink_to("nowhere.png")
    said = refusal(parts, tmp_path / "cache")
    assert "train/bee/9.png' (a link to nothing): No such file" in said


def test_a_decompression_bomb(parts: Path, tmp_path: Path) -> None:
    path = parts / "train/ant/1.png"
    data = bytearray(path.read_bytes())
    for side in (12_000, 60_000):  # Pillow only warns of the first
        data[16:24] = struct.pack(">2I", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            said = refusal(parts, tmp_path / "cache")
        assert "1 of 18 images cannot be read, first 'train/ant/1.png'" in said
        assert "pixels" in said


def test_a_thin_strip_is_not_blown_up(tmp_path: Path) -> None:
    got = one_image(tmp_path, lambda path: Image.new("RGB", (2_000_000, 1), "red").save(path), "x.png", 64)
    assert (got == [255, 0, 0]).all()


def test_grey_values_that_have_no_scale(parts: Path, tmp_path: Path) -> None:
    for value in (np.nan, np.inf):
        Image.fromarray(np.full((16, 16), value, np.float32)).save(parts / "train/ant/9.tif")
        assert "has floating-point values that are no numbers" in refusal(parts, tmp_path / "cache")
    Image.fromarray(np.full((16, 16), 70_000, np.int32)).save(parts / "train/ant/9.tif")
    assert "more than 16 bits" in refusal(parts, tmp_path / "cache")


def test_many_threadsdecode_the_same(classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = load(classes, tmp_path / "one").content_hash
    monkeypatch.setattr(folder_module, "_SMALL_BYTES", 0)
    monkeypatch.setattr(folder_module, "_BLOCK", 2)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    monkeypatch.setattr(folder_module, "num_cores", lambda: 4)
    threads = set()

    def watched(path: Path, image_px: int, to_rgb: ToRgb, fit: Fit) -> tuple[npt.NDArray[np.uint8], Picture]:
        threads.add(threading.get_ident())
        return decode(path, image_px, to_rgb, fit)

    monkeypatch.setattr(folder_module, "decode", watched)
    lines: list[str] = []
    assert load(classes, tmp_path / "many", say=lines.append).content_hash == one
    assert len(threads) > 1
    assert lines[0] == "folder images: decoding 30 images, once"
    assert "30 of 30 images decoded" in lines[-1]


def test_more_images_than_memory(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def no_memory(shape: tuple[int, ...], dtype: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", no_memory)
    said = refusal(parts, tmp_path / "cache", 1024)
    assert "18 images of 1024 px need" in said
    assert "GiB" in said
