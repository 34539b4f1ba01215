"""`folder:PATH`: what is told of what was read, lost and left out, the same each time; and the scale of 16-bit grey."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from experiments.images.tasks import Task
from experiments.images.tasks.cache import decoded, received
from experiments.images.tasks.image_files.decoding import decode, to_8_bits
from experiments.images.tasks.reading import ToRgb
from tests.experiments.images.test_task_folder import write_16_bit_colour
from tests.support.image_folders import load, make_parts, pixels_of, refusal, save


def told(task: Task) -> dict[str, str]:
    return dict(task.reading.facts)


def warning(task: Task, beginning: str) -> str:
    (found,) = [text for text in task.reading.warnings if text.startswith(beginning)]
    return found


def save_grey(path: Path, values_HW: npt.NDArray[np.integer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values_HW.astype(np.uint16)).save(path)


def grey_folder(root: Path, low: int, high: int, per_class: int = 6) -> Path:
    """16-bit grey images of two classes, the second with the brighter half of the values; the brightest is there."""
    draw, middle = np.random.default_rng(0), (low + high) // 2
    for name, start, end in (("bright", middle, high), ("dim", low, middle)):
        for i in range(per_class):
            values_HW = draw.integers(start, end + 1, (16, 16))
            values_HW[0, :2] = start, end
            save_grey(root / name / f"{i}.png", values_HW)
    return root


def test_all_16_bits_are_scaled_as_ever() -> None:
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_8_bits(values, 16), values // 257)
    for bits in range(8, 17):
        levels = to_8_bits(np.arange(2**bits, dtype=np.uint16), bits)
        assert (levels[0], levels[-1], len(np.unique(levels))) == (0, 255, 256)
        assert np.all(np.diff(levels.astype(int)) >= 0)
    assert to_8_bits(np.array([5000], np.int32), 12).tolist() == [255]


@pytest.mark.parametrize(("brightest", "bits"), [(180, 8), (255, 8), (256, 9), (1000, 10), (4095, 12), (65535, 16)])
def test_one_scale_for_all_grey_of_a_folder(brightest: int, bits: int, tmp_path: Path) -> None:
    root = grey_folder(tmp_path / "images", 0, brightest)
    task = load(root, tmp_path / "cache")
    assert task.reading.to_rgb.grey_bits == bits
    largest = 2**bits - 1
    scaled = "kept" if bits == 8 else f"0 to {largest:,} become 0 to 255"
    assert told(task)["16-bit grey"] == f"12 files with values from 0 to {brightest:,}, read as {bits} bits: {scaled}"
    values_HW = np.asarray(Image.open(root / "dim/0.png"))
    expected = (values_HW.astype(int) * 255 // largest).astype(np.uint8)
    parts = (task.train, task.test)
    assert any(np.array_equal(image[..., 0], expected) for part in parts for image in part.pixels_NHWC)
    assert max(int(part.pixels_NHWC.max()) for part in parts) == brightest * 255 // largest
    assert task.record().get("grey_bits") == (bits if bits < 16 else None)
    again = load(root, tmp_path / "cache")
    assert (again.reading, again.content_hash) == (task.reading, task.content_hash)


def test_grey_that_keeps_few_levels_is_a_warning(tmp_path: Path) -> None:
    task = load(grey_folder(tmp_path / "images", 30_000, 32_000), tmp_path / "cache")
    assert task.reading.to_rgb.grey_bits == 15
    assert "half of them have 9 or fewer of 256" in warning(task, "16-bit grey images keep few of their levels")
    task = load(grey_folder(tmp_path / "more", 0, 4095), tmp_path / "cache")
    assert not task.reading.warnings


def test_8_bit_images_beside_16_bit_ones_stay_as_they_are(parts: Path, tmp_path: Path) -> None:
    expected = load(parts, tmp_path / "cache")
    save_grey(parts / "train/ant/9.png", np.arange(256).reshape(16, 16) * 4)
    task = load(parts, tmp_path / "cache")
    assert task.reading.to_rgb.grey_bits == 10
    assert np.array_equal(task.train.pixels_NHWC[3, ..., 0].ravel(), np.arange(256) * 4 * 255 // 1023)
    others = [0, 1, 2, *range(4, 10)]
    assert np.array_equal(task.train.pixels_NHWC[others], expected.train.pixels_NHWC)
    assert told(task)["Modes"] == "RGB 18, 16-bit grey (I;16) 1"


def test_the_scale_is_part_of_what_the_images_are(tmp_path: Path) -> None:
    """Two folders that come to the same pixels on other scales: a run of one must not answer for the other."""
    eight, ten = tmp_path / "eight", tmp_path / "ten"
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        for i in range(5):
            values_HW = draw.integers(0, 256, (16, 16), np.uint8)
            values_HW[0, 0] = 255
            (eight / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values_HW).save(eight / name / f"{i}.png")
            save_grey(ten / name / f"{i}.png", -(-values_HW.astype(int) * 1023 // 255))
    first, second = load(eight, tmp_path / "cache"), load(ten, tmp_path / "cache")
    assert np.array_equal(first.train.pixels_NHWC, second.train.pixels_NHWC)
    assert first.content_hash != second.content_hash


def test_the_scale_reaches_another_machine(tmp_path: Path) -> None:
    task = load(grey_folder(tmp_path / "images", 0, 1000), tmp_path / "cache")
    found = received(task.content_hash, tmp_path / "node", lambda: decoded(task))
    assert Task(task.name, task.label, *found).record() == task.record() and task.record()["grey_bits"] == 10
    assert found.reading == task.reading
    other = decoded(task)._replace(reading=replace(task.reading, to_rgb=ToRgb(12)))
    with pytest.raises(ValueError, match="are not those that were sent"):
        received(task.content_hash, tmp_path / "other", lambda: other)


def test_one_picture_is_read_on_the_scale_of_the_others(tmp_path: Path) -> None:
    save_grey(tmp_path / "x.png", np.full((16, 16), 512))
    save_grey(tmp_path / "y.png", np.full((16, 16), 5000))
    assert [int(decode(tmp_path / name, 8, ToRgb(10))[0].max()) for name in ("x.png", "y.png")] == [127, 255]
    assert int(decode(tmp_path / "x.png", 8)[0].max()) == 512 // 257


@pytest.mark.parametrize("size", [(4, 4), (16, 16), (23, 16), (64, 64)])
def test_grey_of_every_byte_order_and_width(size: tuple[int, int], tmp_path: Path) -> None:
    values_HW = np.random.default_rng(0).integers(0, 1024, size[::-1])
    save_grey(tmp_path / "little.png", values_HW)
    Image.fromarray(values_HW.astype(np.uint16)).save(tmp_path / "little.tif")
    Image.fromarray(values_HW.astype(">u2")).save(tmp_path / "big.tif")
    Image.fromarray(values_HW.astype(np.int32)).save(tmp_path / "wide.tif")
    assert Image.open(tmp_path / "big.tif").mode == "I;16B"
    first, *others = [
        decode(tmp_path / name, 16, ToRgb(10)) for name in ("little.png", "little.tif", "big.tif", "wide.tif")
    ]
    for pixels_HWC, picture in others:
        assert np.array_equal(pixels_HWC, first[0]) and picture.grey == first[1].grey


def test_files_of_other_formats_are_named_each_time(classes: Path, tmp_path: Path) -> None:
    for i in range(6):
        (classes / f"ant/{i}.HEIC").write_bytes(b"x")
    (classes / "bee/1.tga").write_bytes(b"x")
    (classes / "bee/notes.txt").write_bytes(b"x")
    for cache in ("cache", "cache", "other"):
        task = load(classes, tmp_path / cache)
        assert told(task)["Not read"] == (
            "class 'ant': 6 .heic; class 'bee': 1 .tga; files that are not images: 1 .txt"
        )
        said = warning(task, "Files of formats that are not decoded are left out")
        assert "6 .heic of class 'ant', which has 10 images without them" in said and "bee" not in said
        assert "Convert them to PNG or JPEG" in said
    for path in classes.glob("ant/*.png"):
        path.unlink()
    assert "class 'ant' has no images; it has 6 .heic: convert these to PNG" in refusal(classes, tmp_path / "none")


def test_images_of_one_colour_are_counted(parts: Path, tmp_path: Path) -> None:
    save(parts / "test/bee/2.png", np.full((16, 16, 3), 200, np.uint8))
    task = load(parts, tmp_path / "cache")
    assert warning(task, "1 image of 18 is of one colour throughout: 1 of class 'bee'")
    for path in parts.rglob("*.png"):
        save(path, np.zeros((16, 16, 3), np.uint8))
    task = load(parts, tmp_path / "cache")
    assert task.reading.warnings == (
        "All images are of one colour throughout: nothing in them can be learned but that colour.",
    )


def test_faint_images_are_a_warning(parts: Path, tmp_path: Path) -> None:
    for path in parts.rglob("*.png"):
        save(path, pixels_of(int(path.stem)) // 16)
    task = load(parts, tmp_path / "cache")
    assert told(task)["Values"] == "0 to 15 after decoding and resizing; 0 is black and 255 white"
    assert "half of them use 16 or fewer of 256 levels (0 to 15 in all)" in warning(task, "The images are faint")


def test_what_the_crop_cuts_off(parts: Path, tmp_path: Path) -> None:
    for path in parts.glob("*/*/[01].png"):
        save(path, pixels_of(int(path.stem), 48, 64))
    task = load(parts, tmp_path / "cache")
    assert told(task)["Sizes"] == "16 x 16 to 64 x 48 px, most often 64 x 48 (12 files); 12 of 18 are not square"
    lost = "17 % of a picture on average, 25 % at worst"
    assert told(task)["Cropping"] == "the middle square is read"
    assert told(task)["Resizing"] == (
        "to 16 x 16 px: 3 times smaller (from as they are to 3 times smaller);"
        " details under 3 px of a file are lost (protocol.image_px)"
    )
    assert f"without {lost}: what lies at the edges is lost" in warning(task, "Only the middle square")
    square = load(make_parts(tmp_path / "squares"), tmp_path / "cache", 32)
    assert (told(square)["Sizes"], told(square)["Resizing"]) == ("all 16 x 16 px", "to 32 x 32 px: 2 times larger")
    assert "Cropping" not in told(square) and not square.reading.warnings


def test_turned_and_animated_files_and_modes_are_told(parts: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "png", "webp", "tif"):
        save(parts / f"train/ant/turned.{suffix}", pixels_of(1, 16, 24), exif=exif)
    frames = [Image.fromarray(pixels_of(i)) for i in range(3)]
    for suffix in ("gif", "webp", "tif", "png"):
        frames[0].save(parts / f"train/bee/x.{suffix}", save_all=True, append_images=frames[1:])
    Image.fromarray(pixels_of(5)[..., 0]).save(parts / "test/ant/grey.png")
    Image.fromarray(pixels_of(5)).convert("CMYK").save(parts / "test/ant/cmyk.jpg")
    write_16_bit_colour(parts / "test/ant/deep.png")
    task = load(parts, tmp_path / "cache")
    found = told(task)
    assert found["Turned"] == "4 files turned upright by the EXIF tag"
    assert found["Sizes"].startswith("16 x 16 to 16 x 24 px")
    assert found["Frames"] == "4 files with several frames or pages, of which the first is read"
    assert warning(task, "4 of 29 files have several frames")
    assert found["16-bit colour"] == "1 file, of which the upper 8 bits of each channel are read"
    for mode in ("grey (L) 1", "CMYK 1", "palette (P) 1", "RGB of 16 bits a channel 1"):
        assert mode in found["Modes"]


@pytest.mark.parametrize("name", [b"a\nb", b"\x1b[31m", b"\xff", b"\xe2\x80\xae"])
def test_names_cannot_reach_the_terminal_through_what_is_told(name: bytes, parts: Path, tmp_path: Path) -> None:
    save(parts / "extra/1.png", pixels_of(1))
    (parts / "extra").rename(parts / os.fsdecode(name))
    (parts / f"train/ant/x.{os.fsdecode(name)}").write_bytes(b"")
    reading = load(parts, tmp_path / "cache").reading
    assert all(text.isprintable() for pair in reading.facts for text in pair)
    assert "1 image" in dict(reading.facts)["Not read"]
