"""`folder:PATH`: what is read, how it is split and decoded."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.images.tasks import folder as folder_module
from tests.support.image_folders import CLASSES, load, make_parts, one_image, pixel_set, pixels_of, png, png_chunk, save


def test_parts_are_read_exactly_in_order(tmp_path: Path) -> None:
    root = make_parts(tmp_path / "my images")
    task = load(root, tmp_path / "cache")
    assert (task.name, task.label, task.classes) == ("folder", "my images", CLASSES)
    for p, part in enumerate((task.train, task.test)):
        assert part.labels_N.tolist() == [0] * 3 + [1] * 3 + [2] * 3
        expected = np.stack([pixels_of(100 * p + 10 * c + i) for c in range(3) for i in range(3)])
        assert np.array_equal(part.pixels_NHWC, expected)
        assert np.array_equal(part.theta_N23, np.tile(np.eye(2, 3, dtype=np.float32), (9, 1, 1)))
        assert (part.labels_N.dtype, part.theta_N23.dtype) == (np.int64, np.float32)


def test_decoded_once_and_the_path_is_stored_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_parts(tmp_path / "secret-place/known-to-none")
    first = load(root, tmp_path / "cache")
    monkeypatch.setattr(folder_module, "decode", None)
    lines: list[str] = []
    monkeypatch.chdir(root.parent)
    second = load("known-to-none/", tmp_path / "cache", say=lines.append)
    assert second.content_hash == first.content_hash
    assert second.label == "known-to-none"
    assert second.reading == first.reading
    assert dict(second.reading.facts)["Sizes"] == "all 16 x 16 px"
    assert not lines
    monkeypatch.chdir(root)
    assert load(".", tmp_path / "cache").label == "known-to-none"
    (entry,) = (tmp_path / "cache").iterdir()
    for path in entry.iterdir():
        assert b"secret-place" not in path.read_bytes()
        assert b"known-to-none" not in path.read_bytes()


def test_the_same_images_elsewhere_have_the_same_hash(tmp_path: Path) -> None:
    root = make_parts(tmp_path / "here")
    there = shutil.copytree(root, tmp_path / "there")
    hashes = {load(root, tmp_path / "cache").content_hash, load(there, tmp_path / "cache").content_hash}
    assert len(hashes) == 1


def test_a_change_is_seen(tmp_path: Path) -> None:
    root, cache = make_parts(tmp_path / "images"), tmp_path / "cache"
    hashes = [load(root, cache).content_hash]
    save(root / "train/bee/1.png", pixels_of(999))
    hashes.append(load(root, cache).content_hash)
    (root / "test/cat/2.png").rename(root / "test/cat/20.png")  # moves nothing: still the last of its class
    assert load(root, cache).content_hash == hashes[-1]
    (root / "test/cat/20.png").rename(root / "test/cat/00.png")
    hashes.append(load(root, cache).content_hash)
    (root / "train/ant/1.png").unlink()
    hashes.append(load(root, cache).content_hash)
    (root / "train/ant").rename(root / "train/asp")
    (root / "test/ant").rename(root / "test/asp")
    hashes.append(load(root, cache).content_hash)
    hashes.append(load(root, cache, image_px=8).content_hash)
    assert len(set(hashes)) == len(hashes)


def test_a_change_with_the_old_size_and_time_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for c, name in enumerate(CLASSES):
        for i in range(5):
            save(root / name / f"{i}.bmp", pixels_of(10 * c + i))
    before = load(root, tmp_path / "cache").content_hash
    path = root / "bee/3.bmp"
    status = path.stat()
    save(path, pixels_of(999))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert load(root, tmp_path / "cache").content_hash != before


def test_what_is_no_image_is_left_out(parts: Path, tmp_path: Path) -> None:
    expected = load(parts, tmp_path / "cache").content_hash
    for name in (".hidden.png", ".DS_Store", "train/.hidden/a.png", "train/ant/.x.png", "train/ant/.x/a.png"):
        save(parts / name, pixels_of(1)) if name.endswith("png") else (parts / name).write_text("")
    for name in ("readme.txt", "train/loose.png", "train/ant/notes.csv", "extra/a/1.png"):
        (parts / name).parent.mkdir(parents=True, exist_ok=True)
        (parts / name).write_text("no image")
    os.mkfifo(parts / "train/ant/pipe.png")
    task = load(parts, tmp_path / "other")
    assert task.content_hash == expected
    assert dict(task.reading.facts)["Not read"] == (
        "extra/: 1 image; beside the class folders: 1 .png; files that are not images: 1 .txt, 1 .csv;"
        " 2 images in hidden folders and those of the system (.hidden, .x)"
    )
    (warning,) = task.reading.warnings
    assert warning.startswith("2 images outside the class folders are not read")


def test_nested_images_and_links_count(parts: Path, tmp_path: Path) -> None:
    save(parts / "train/bee/deep/er/a.PNG", pixels_of(501))
    save(tmp_path / "elsewhere/b.png", pixels_of(502))
    (parts / "train/bee/linked").symlink_to(tmp_path / "elsewhere")
    (parts / "train/bee/again").symlink_to(parts / "train/bee")  # a circle
    train = load(parts, tmp_path / "cache").train
    assert train.labels_N.tolist() == [0] * 3 + [1] * 5 + [2] * 3
    assert {pixels_of(501).tobytes(), pixels_of(502).tobytes()} <= pixel_set(train)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "bmp", "webp", "gif", "tif", "tiff"])
def test_every_format(suffix: str, tmp_path: Path) -> None:
    colour = np.tile(np.array([200, 100, 50], np.uint8), (16, 16, 1))
    got = one_image(tmp_path, lambda path: save(path, colour), f"x.{suffix}")
    assert np.abs(got.astype(int) - [200, 100, 50]).max() <= 3


def write_16_bit_colour(path: Path) -> None:
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""
    row = b"\0" + struct.pack(">3H", 0x8080, 0x4040, 0xFFFF) * 16
    path.write_bytes(png(16, 16, 16, 2, png_chunk(b"IDAT", zlib.compress(row * 16))))


def transparent_palette() -> Image.Image:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info["transparency"] = 1
    return image


GREY_16 = np.full((16, 16), 0x80C0, np.uint16)


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("grey.png", Image.new("L", (16, 16), 77).save, (77, 77, 77)),
        ("one-bit.png", Image.new("1", (16, 16), 1).save, (255, 255, 255)),
        (
            "palette.png",
            Image.new("RGB", (16, 16), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE).save,
            (9, 8, 7),
        ),
        ("clear-palette.png", transparent_palette().save, (255, 255, 255)),
        ("opaque.png", Image.new("RGBA", (16, 16), (10, 20, 30, 255)).save, (10, 20, 30)),
        ("half.png", Image.new("RGBA", (16, 16), (0, 100, 200, 128)).save, (127, 177, 227)),
        ("clear.png", Image.new("LA", (16, 16), (0, 0)).save, (255, 255, 255)),
        ("cmyk.jpg", Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save, (0, 255, 255)),
        ("cmyk.tif", Image.new("CMYK", (16, 16), (0, 255, 0, 0)).save, (255, 0, 255)),
        ("grey16.png", Image.fromarray(GREY_16).save, (128, 128, 128)),
        ("grey16.tif", Image.fromarray(GREY_16).save, (128, 128, 128)),
        ("grey32.tif", Image.fromarray(GREY_16.astype(np.int32)).save, (128, 128, 128)),
        ("colour16.png", write_16_bit_colour, (128, 64, 255)),
    ],
)
def test_every_mode_becomes_rgb(
    name: str, write: Callable[[Path], None], expected: tuple[int, int, int], tmp_path: Path
) -> None:
    got = one_image(tmp_path, write, name)
    assert got.shape == (16, 16, 3)
    assert np.abs(got.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    upright = pixels_of(1)
    stored = {  # what a camera held that way stores
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = one_image(tmp_path, lambda path: save(path, np.ascontiguousarray(stored), exif=exif), "x.png")
    assert np.array_equal(got, upright)


@pytest.mark.parametrize(("height", "width"), [(16, 23), (23, 16), (16, 24)])
def test_the_shorter_side_fits_so_it_is_only_cropped(height: int, width: int, tmp_path: Path) -> None:
    pixels = pixels_of(1, height, width)
    top, left = (height - 16) // 2, (width - 16) // 2
    got = one_image(tmp_path, lambda path: save(path, pixels), "x.png")
    assert np.array_equal(got, pixels[top : top + 16, left : left + 16])


def test_resizing_averages_and_keeps_the_centre(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:64, 0:160]
    checks = ((rows + columns) % 2 * 255).astype(np.uint8)  # grey from afar; any aliasing is black or white
    pixels = np.stack([checks, np.where(columns < 80, 0, 255), np.where(rows < 32, 0, 255)], 2).astype(np.uint8)
    got = one_image(tmp_path, lambda path: save(path, pixels), "x.png").astype(int)
    assert np.abs(got[..., 0] - 127.5).max() < 3
    assert got[:, :7, 1].max() < 20
    assert got[:, 9:, 1].min() > 235
    assert got[:7, :, 2].max() < 20
    assert got[9:, :, 2].min() > 235


def test_large_photographs_and_small_drawings(tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(pixels_of(3, 12, 16)).resize((160, 120), Image.Resampling.BICUBIC))
    got = one_image(tmp_path / "a", lambda path: save(path, smooth, quality=95), "x.jpg")
    exact = np.asarray(Image.fromarray(smooth[:, 20:140]).resize((16, 16), Image.Resampling.BICUBIC))
    assert np.abs(got.astype(int) - exact).max() <= 15  # decoded at a fraction of its size
    got = one_image(tmp_path / "b", lambda path: save(path, pixels_of(1, 4, 4)), "x.png", 32)
    assert got.shape == (32, 32, 3)
    assert got.std() > 20


def test_one_folder_of_classes_is_split_80_20(classes: Path, tmp_path: Path) -> None:
    task = load(classes, tmp_path / "cache")
    assert np.bincount(task.train.labels_N).tolist() == [8] * 3
    assert np.bincount(task.test.labels_N).tolist() == [2] * 3
    assert not pixel_set(task.train) & pixel_set(task.test)
    assert len(pixel_set(task.train) | pixel_set(task.test)) == 30
    for part in (task.train, task.test):
        for pixels, label in zip(part.pixels_NHWC, part.labels_N, strict=True):
            assert any(np.array_equal(pixels, pixels_of(100 * int(label) + i)) for i in range(10))
    assert load(classes, tmp_path / "other").content_hash == task.content_hash

    before = pixel_set(task.test)
    save(classes / "bee/99.png", pixels_of(1234))
    after = pixel_set(load(classes, tmp_path / "cache").test)
    assert len(before & after) >= 5  # one more image moves one at most
