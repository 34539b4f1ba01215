"""`folder:PATH`: bits, bands, planes and transparency are asked of each file, and read in one way for all of them."""

import struct
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from experiments.images.tasks.cache import decoded, received
from experiments.images.tasks.image_files.decoding import MAX_IMAGE_PIXELS, decode
from experiments.images.tasks.overlap import find_overlap, overlap_text
from experiments.images.tasks.reading import ToRgb
from experiments.runs.trained import Trained
from tests.experiments.images.test_task_folder_reading import told, warning
from tests.support.image_folders import encoded, load, one_image, pixels_of, png, png_chunk, refusal, save


def tiff(pixels_HWC: npt.NDArray[np.integer], *, photometric: int = 2, planes: bool = False, **more: int) -> bytes:
    """An uncompressed TIFF of any bands and bits, which Pillow does not write. more: extra, of the last band; kind."""
    height, width, bands = pixels_HWC.shape
    bits, num = 8 * pixels_HWC.dtype.itemsize, bands if planes else 1
    order = pixels_HWC.dtype.newbyteorder("<")
    data = (pixels_HWC.transpose(2, 0, 1) if planes else pixels_HWC).astype(order).tobytes()
    tags = [
        (256, [width]), (257, [height]), (258, [bits] * bands), (259, [1]), (262, [photometric]), (273, [0] * num),
        (277, [bands]), (278, [height]), (279, [len(data) // num] * num), (284, [2 if planes else 1]),
        *([(338, [more["extra"]])] if "extra" in more else []), (339, [more.get("kind", 1)] * bands),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    end = start + sum(4 * len(values) for _, values in tags if len(values) > 1)
    table, behind = b"", b""
    for tag, values in tags:
        found = [end + i * len(data) // num for i in range(num)] if tag == 273 else values
        packed = struct.pack(f"<{len(found)}I", *found)
        table += struct.pack("<HHI", tag, 4, len(found))
        table += packed if len(found) == 1 else struct.pack("<I", start + len(behind))
        behind += packed if len(found) > 1 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4) + behind + data


def png16(values_HWC: npt.NDArray[np.integer]) -> bytes:
    """A PNG of 16 bits a channel, its rows filtered by the byte to the left, which needs to know a pixel's width."""
    height, width, bands = values_HWC.shape
    rows = values_HWC.astype(">u2").reshape(height, -1).view(np.uint8)
    left = np.pad(rows, ((0, 0), (2 * bands, 0)))[:, : rows.shape[1]]
    packed = zlib.compress(b"".join(b"\1" + row.tobytes() for row in rows - left))
    return png(width, height, 16, {2: 4, 3: 2, 4: 6}[bands], png_chunk(b"IDAT", packed))


def values_of(seed: int, bits: int, bands: int = 3) -> npt.NDArray[np.uint16]:
    values_HWC = np.random.default_rng(seed).integers(0, 2**bits, (16, 16, bands)).astype(np.uint16)
    values_HWC[0, 0] = 2**bits - 1
    return values_HWC


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_colour_of_16_bits_has_one_scale_for_all(kind: str, bits: int, parts: Path, tmp_path: Path) -> None:
    values = {i: values_of(i, bits if i else bits - 2) for i in range(3)}
    for i, values_HWC in values.items():
        data = png16(values_HWC) if kind == "png" else tiff(values_HWC)
        (parts / f"train/ant/deep{i}.{kind}").write_bytes(data)
    task = load(parts, tmp_path / "cache")
    for i, values_HWC in values.items():
        assert np.array_equal(task.train.pixels_NHWC[3 + i], (values_HWC >> (bits - 8)).astype(np.uint8))
    of = f"{bits} that are used" if bits < 16 else "each channel"
    assert told(task)["16-bit colour"] == f"3 files, of which the upper 8 bits of {of} are read"
    assert task.record().get("grey_bits") == (bits if bits < 16 else None)


def test_transparency_of_16_bits_is_not_scaled(tmp_path: Path) -> None:
    values_HWC = values_of(1, 12, 4)
    values_HWC[..., 3] = 65535
    grey_HWC = np.dstack([values_HWC[..., 0], values_HWC[..., 3]])
    (tmp_path / "rgba.png").write_bytes(png16(values_HWC))
    (tmp_path / "rgba.tif").write_bytes(tiff(values_HWC, extra=2))
    (tmp_path / "grey.png").write_bytes(png16(grey_HWC))
    for name, bands in (("rgba.png", [0, 1, 2]), ("rgba.tif", [0, 1, 2]), ("grey.png", [0, 0, 0])):
        pixels_HWC, picture = decode(tmp_path / name, 16, ToRgb(12))
        assert np.array_equal(pixels_HWC, (values_HWC[..., bands] >> 4).astype(np.uint8)), name
        assert (picture.deep_bits, picture.alpha) == (12, None)


def test_compressed_and_turned_colour_of_16_bits(tmp_path: Path) -> None:
    values_HWC = values_of(1, 12)
    data = bytearray(png16(values_HWC))
    exif = Image.Exif()
    exif[0x0112] = 3
    data[33:33] = png_chunk(b"eXIf", exif.tobytes()[6:])
    (tmp_path / "turned.png").write_bytes(data)
    found, _ = decode(tmp_path / "turned.png", 16, ToRgb(12))
    assert np.array_equal(found, (values_HWC >> 4)[::-1, ::-1].astype(np.uint8))


def test_values_that_pillow_takes_for_others_are_refused(parts: Path, tmp_path: Path) -> None:
    path = parts / "train/ant/x.tif"
    for data, said in (
        (tiff(values_of(1, 16), planes=True), "a TIFF of 3 bands of 16 bits in separate planes"),
        (tiff(values_of(1, 7)[..., :1].astype(np.int8), photometric=1, kind=2), "a TIFF of 1 band of signed 8 bits"),
        (tiff(values_of(1, 16, 13), photometric=1), "a TIFF of 13 bands of 16 bits"),
        (tiff(values_of(1, 8, 5).astype(np.uint8), photometric=1), "a TIFF of 5 bands of 8 bits"),
    ):
        path.write_bytes(data)
        assert f"{said}, which is not decoded: convert it to 8-bit RGB or grey" in refusal(parts, tmp_path / "none")
    data = tiff(pixels_of(1))
    at = data.index(struct.pack("<HHII", 259, 4, 1, 1)) + 8
    path.write_bytes(data[:at] + struct.pack("<I", 34712) + data[at + 4 :])
    assert "a TIFF whose compression, number 34712, is not decoded" in refusal(parts, tmp_path / "none")
    path.write_bytes(tiff(pixels_of(1), planes=True))
    assert np.array_equal(decode(path, 16)[0], pixels_of(1))


def test_pillow_says_nothing_on_the_terminal(parts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (parts / "train/ant/x.tif").write_bytes(tiff(values_of(1, 16, 13), photometric=1))
    refusal(parts, tmp_path / "none")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bits", [10, 16])
def test_grey_whose_zero_is_white(bits: int, tmp_path: Path) -> None:
    values_HW1 = values_of(1, bits, 1)
    (tmp_path / "x.tif").write_bytes(tiff(values_HW1, photometric=0))
    found, picture = decode(tmp_path / "x.tif", 16, ToRgb(bits))
    assert np.array_equal(found[..., 0], 255 - values_HW1[..., 0].astype(int) * 255 // (2**bits - 1))
    assert picture.grey is not None and picture.grey[1] == 2**bits - 1


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_span_black_to_white(bits: int, tmp_path: Path) -> None:
    levels_HW = np.arange(256).reshape(16, 16) % 2**bits
    rows = np.packbits((levels_HW[..., None] >> np.arange(bits)[::-1] & 1).reshape(16, -1).astype(np.uint8), axis=1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    (tmp_path / "x.png").write_bytes(png(16, 16, bits, 0, png_chunk(b"IDAT", packed)))
    found, _ = decode(tmp_path / "x.png", 16)
    assert np.array_equal(found[..., 0], levels_HW * 255 // (2**bits - 1))


def test_a_palette_of_dark_greys_is_a_warning(parts: Path, tmp_path: Path) -> None:
    for path in parts.rglob("*.png"):
        image = Image.fromarray(pixels_of(int(path.stem))[..., 0] % 16, "P")
        image.putpalette([level for level in range(16) for _ in range(3)])
        image.save(path)
    assert "half of them use 16 or fewer" in warning(load(parts, tmp_path / "cache"), "The images are faint")


def test_inverted_inks_of_a_jpeg(tmp_path: Path) -> None:
    """As Adobe's programs write them, and say so."""
    data = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG")
    assert b"Adobe" in data
    got = one_image(tmp_path, lambda path: path.write_bytes(data), "x.jpg")
    assert np.abs(got.astype(int) - [0, 255, 255]).max() <= 2


def drawing(seed: int, colour: tuple[int, int, int]) -> Image.Image:
    """Of one colour, on transparent ground."""
    alpha_HW = np.where(np.random.default_rng(seed).random((16, 16)) < 0.4, 255, 0).astype(np.uint8)
    colour_HWC = np.tile(np.array(colour, np.uint8), (16, 16, 1))
    return Image.fromarray(np.dstack([np.where(alpha_HW[..., None] > 0, colour_HWC, 255), alpha_HW]), "RGBA")


WHITE, BLACK = (255, 255, 255), (0, 0, 0)


@pytest.mark.parametrize(
    ("colours", "ground", "level"),
    [((BLACK, BLACK), "white", 255), ((WHITE, WHITE), "black", 0), ((BLACK, WHITE), "grey", 128)],
)
def test_one_ground_for_all_that_spares_drawings_in_any_colour(
    colours: tuple[tuple[int, int, int], ...], ground: str, level: int, parts: Path, tmp_path: Path
) -> None:
    expected = load(parts, tmp_path / "cache").train.pixels_NHWC
    for i in range(6):
        drawing(i, colours[i % 2]).save(parts / f"train/bee/x{i}.png")
    task = load(parts, tmp_path / "cache")
    assert task.reading.to_rgb == ToRgb(ground=ground)
    drawn = task.train.pixels_NHWC[6:12]
    for i in range(6):
        is_drawn = np.asarray(drawing(i, BLACK))[..., 3] > 0
        assert set(np.unique(drawn[i][is_drawn])) == {colours[i % 2][0]} and set(np.unique(drawn[i][~is_drawn])) == {
            level
        }
    assert np.array_equal(np.delete(task.train.pixels_NHWC, range(6, 12), 0), expected)
    assert told(task)["Transparency"].startswith(f"6 images drawn over {ground}")
    assert task.record().get("ground") == (ground if ground != "white" else None)
    again = load(parts, tmp_path / "cache")
    assert (again.reading, again.content_hash) == (task.reading, task.content_hash)
    found = received(task.content_hash, tmp_path / "node", lambda: decoded(task))
    assert found.reading == task.reading
    for other in {"white", "black", "grey"} - {ground}:
        wrong = replace(task, reading=replace(task.reading, to_rgb=ToRgb(ground=other)))
        with pytest.raises(ValueError, match="are not those that were sent"):
            received(task.content_hash, tmp_path / other, partial(decoded, wrong))
    run = Trained({"task": task.record()}, tmp_path, None, 16)  # type: ignore[arg-type]
    read = decode(parts / "train/bee/x0.png", 16, run.to_rgb)[0]
    assert np.array_equal(read, drawn[0])


def test_few_white_drawings_do_not_change_the_ground(parts: Path, tmp_path: Path) -> None:
    for i in range(20):
        drawing(i, WHITE if i == 0 else BLACK).save(parts / f"train/bee/x{i}.png")
    assert load(parts, tmp_path / "cache").reading.to_rgb.ground == "white"


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_colours_that_are_transparent_throughout_are_read(suffix: str, parts: Path, tmp_path: Path) -> None:
    clear = Image.fromarray(np.dstack([pixels_of(5), np.zeros((16, 16), np.uint8)]), "RGBA")
    clear.save(parts / f"train/ant/x.{suffix}", lossless=True, exact=True)
    task = load(parts, tmp_path / "cache")
    assert np.array_equal(task.train.pixels_NHWC[3], pixels_of(5))
    assert told(task)["Transparency"] == "1 image transparent throughout and read as if opaque"


def test_a_fourth_band_that_is_not_transparency_is_a_warning(parts: Path, tmp_path: Path) -> None:
    for i in range(6):
        bands_HWC = np.dstack([pixels_of(i), np.full((16, 16), 20 + i, np.uint8)])
        (parts / f"train/bee/x{i}.tif").write_bytes(tiff(bands_HWC, extra=2))
    said = warning(load(parts, tmp_path / "cache"), "6 of 24 images are half transparent in most of their pixels")
    assert "save them with their three colours only" in said


def test_first_pages_of_one_colour_are_a_warning(parts: Path, tmp_path: Path) -> None:
    blank = Image.new("RGB", (16, 16))
    blank.save(parts / "train/bee/x.tif", save_all=True, append_images=[Image.fromarray(pixels_of(1))])
    said = warning(load(parts, tmp_path / "cache"), "The first frame or page of 1 file is of one colour throughout")
    assert "save the one that matters" in said


def test_a_photograph_is_judged_by_what_is_decoded_of_it(parts: Path, tmp_path: Path) -> None:
    assert MAX_IMAGE_PIXELS < 12_000 * 9_000
    save(parts / "train/ant/x.jpg", np.full((9_000, 12_000, 3), 90, np.uint8))
    task = load(parts, tmp_path / "cache")
    assert np.abs(task.train.pixels_NHWC[3].astype(int) - 90).max() <= 2
    Image.new("L", (12_000, 9_000)).save(parts / "train/ant/y.jpg", progressive=True)
    said = refusal(parts, tmp_path / "none")
    assert "12000 x 9000 pixels are too many (89,478,485 are the limit): make the image smaller" in said


def test_images_of_one_colour_are_not_called_copies(parts: Path, tmp_path: Path) -> None:
    for path in parts.rglob("*.png"):
        save(path, np.zeros((16, 16, 3), np.uint8))
    task = load(parts, tmp_path / "cache")
    assert task.reading.warnings[0].startswith("All images are of one colour throughout")
    assert overlap_text(task, find_overlap(task)) == ""
    for path in parts.rglob("*.png"):
        save(path, pixels_of(1))
    task = load(parts, tmp_path / "cache")
    assert "9 of 9 test images (" in overlap_text(task, find_overlap(task))


def test_grey_of_16_bits_with_transparency_is_not_told_as_colour(parts: Path, tmp_path: Path) -> None:
    values_HWC = values_of(1, 16, 2)
    values_HWC[..., 1] = 65535
    (parts / "test/ant/grey.png").write_bytes(png16(values_HWC))
    assert told(load(parts, tmp_path / "cache"))["Modes"] == (
        "RGB 18, RGB or grey of 16 bits a channel with transparency 1"
    )
