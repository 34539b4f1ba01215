"""Images that somebody made to do harm, or that are merely odd: read, or refused in a line before memory is taken."""

import os
import random
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from experiments.images.tasks.image_files.decoding import decode, reason
from tests.support.image_folders import (
    encoded,
    load,
    make_classes,
    make_parts,
    one_image,
    pixels_of,
    png,
    png_chunk,
    refusal,
)


def test_postscript_is_not_handed_to_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, program = tmp_path / "mark", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(program))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n"
    root = make_parts(tmp_path / "images")
    (root / "train/ant/x.png").write_bytes(eps)
    said = refusal(root, tmp_path / "cache")
    assert "first 'train/ant/x.png': not an image (JPEG, PNG, BMP, WEBP, GIF, TIFF)" in said
    assert not mark.exists()
    with suppress(OSError):  # the program makes no image
        Image.open(BytesIO(eps)).load()
    assert mark.exists()  # and yet it would have been run


SMALL = Image.fromarray(pixels_of(1))


def zeros(num: int) -> bytes:
    """A packed stream of so many zeros, made in pieces."""
    stream = zlib.compressobj(9)
    return b"".join([stream.compress(bytes(2**20)) for _ in range(num >> 20)] + [stream.flush()])


def tiff(width: int, height: int, *more: tuple[int, int, int, int]) -> bytes:
    of_pixels = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    strips = [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)]
    tags = sorted([*of_pixels, *strips, *more])
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<2H2I", *t) for t in tags) + bytes(104)


def webp(side: int) -> bytes:
    data = bytearray(encoded(SMALL, "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    kept = int.from_bytes(data[at : at + 4], "little") >> 28 << 28
    data[at : at + 4] = (kept | side - 1 | side - 1 << 14).to_bytes(4, "little")
    return bytes(data)


def patched(kind: str, at: int, form: str, side: int) -> bytes:
    """A file whose header says another size."""
    data = bytearray(encoded(SMALL, kind))
    struct.pack_into(form, data, at, side, side)
    return bytes(data)


def jpeg(side: int) -> bytes:
    data = bytearray(encoded(SMALL, "JPEG"))
    struct.pack_into(">2H", data, data.index(b"\xff\xc0") + 5, side, side)
    return bytes(data)


def bombs() -> dict[str, bytes]:
    side = 20_000
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(48) for _ in range(16))))
    return {
        "large.png": png(side, side, 8, 2, png_chunk(b"IDAT", zeros(2**28))),
        "largest.png": png(2**31 - 1, 2**31 - 1, 8, 2, pixels),
        "thin.png": png(2**31 - 1, 16, 8, 2, pixels),
        "large.tif": tiff(side, side),
        "large.jpg": jpeg(side),
        "large.bmp": patched("BMP", 18, "<2i", side),
        "large.gif": patched("GIF", 6, "<2H", side),
        "large.webp": webp(16_383),
        "tag.tif": tiff(16, 16, (700, 1, 2**32 - 16, 8)),
    }


def pixels_chunk(seed: int) -> bytes:
    return png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels_of(seed))))


def metadata_bombs() -> dict[str, bytes]:
    """Small images, whole, with texts and profiles that take hundreds of MiB when they are unpacked."""
    text = zeros(2**28)
    return {
        "text.png": png(16, 16, 8, 2, png_chunk(b"zTXt", b"a\0\0" + text), pixels_chunk(1)),
        "texts.png": png(16, 16, 8, 2, *[png_chunk(b"zTXt", b"a\0\0" + zeros(2**20))] * 200, pixels_chunk(2)),
        "late.png": png(16, 16, 8, 2, pixels_chunk(3), *[png_chunk(b"zTXt", b"a\0\0" + zeros(2**20))] * 200),
        "unicode.png": png(16, 16, 8, 2, png_chunk(b"iTXt", b"a\0\1\0\0\0" + text), pixels_chunk(4)),
        "profile.png": png(16, 16, 8, 2, png_chunk(b"iCCP", b"a\0\0" + text), pixels_chunk(5)),
    }


@contextmanager
def flat_memory(limit_mib: float) -> Iterator[None]:
    """Fails if the process comes to hold so much more than at the start, at any moment."""
    status, peak = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def highest_mib() -> float:
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    try:
        peak.write_text("5")  # forget the highest so far
    except OSError:
        pytest.skip("only Linux says how much memory was held at most since a moment")
    before = highest_mib()
    yield
    assert highest_mib() - before < limit_mib


def test_bombs_are_refused_before_they_are_decoded(
    tmp_path: Path, record_figures: Callable[..., None], whole: bool
) -> None:
    root = make_parts(tmp_path / "images")
    found = bombs()
    for number in range(20 if whole else 1):
        for name, data in found.items():
            (root / "train/ant" / f"bomb-{number}-{name}").write_bytes(data)
    num = len(found) * (20 if whole else 1)
    started = time.monotonic()
    with flat_memory(100):  # one of them would take 1,200 MiB
        said = refusal(root, tmp_path / "cache")
    seconds = time.monotonic() - started
    assert f"{num} of {18 + num} images cannot be read, first 'train/ant/bomb-0-large.bmp': " in said
    assert seconds < (60 if whole else 10)
    record_figures("image_bombs", images=num, seconds=round(seconds, 1))
    for path in root.glob("train/ant/bomb-*"):
        path.unlink()
    for name, data in found.items():  # each for its size
        (root / "train/ant" / name).write_bytes(data)
        reason = why_not(root / "train/ant" / name)
        assert any(word in reason for word in ("pixels", "too large", "memory", "truncated"))


def test_what_is_not_used_of_an_image_is_not_unpacked_and_does_not_refuse_it(tmp_path: Path) -> None:
    found = metadata_bombs()
    for name, data in found.items():
        (tmp_path / name).write_bytes(data)
    with flat_memory(100):
        read = [decode(tmp_path / name, 16)[0] for name in found]
    for seed, pixels_HWC in enumerate(read, 1):
        assert np.array_equal(pixels_HWC, pixels_of(seed))


def test_an_image_of_20_000_pixels_square(tmp_path: Path) -> None:
    """Whole and honest, and small as a file: it is too large all the same, and is not decoded to find out."""
    root = make_parts(tmp_path / "images")
    Image.new("1", (20_000, 20_000)).save(root / "train/ant/x.png")
    with flat_memory(50):
        assert "(400000000 pixels) exceeds limit" in refusal(root, tmp_path / "cache")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "MPO"])
def test_the_first_of_several_frames_counts(kind: str, tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(red, kind, save_all=True, append_images=[blue], **options)
    assert Image.open(BytesIO(data)).n_frames == 2  # type: ignore[attr-defined]
    suffix = {"MPO": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    got = one_image(tmp_path, lambda path: path.write_bytes(data), f"x.{suffix}")
    assert np.abs(got.astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize(("kind", "name"), [("PNG", "x.jpg"), ("JPEG", "x.png"), ("GIF", "x.tiff"), ("BMP", "x.webp")])
def test_a_wrong_extension_does_not_matter(kind: str, name: str, tmp_path: Path) -> None:
    grey = Image.new("RGB", (16, 16), (90, 90, 90))
    got = one_image(tmp_path, lambda path: path.write_bytes(encoded(grey, kind)), name)
    assert np.abs(got.astype(int) - 90).max() <= 2


def test_other_formats_are_refused_whatever_they_are_called(tmp_path: Path) -> None:
    root = make_parts(tmp_path / "images")
    for i, kind in enumerate(("PPM", "JPEG2000", "ICO", "TGA", "PDF", "SGI", "PCX")):
        (root / f"train/ant/x{i}.png").write_bytes(encoded(SMALL, kind))
    said = refusal(root, tmp_path / "cache")
    assert "7 of 25 images cannot be read, first 'train/ant/x0.png': not an image" in said


def test_damaged_tags_and_profiles_leave_the_pixels_alone(whole: bool, tmp_path: Path) -> None:
    """Of an image whose pixels are whole, tags that make no sense are not read; none of them hangs or kills."""
    draw, root = random.Random(0), make_classes(tmp_path / "images", 5)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = 1, "camera", {0x9000: b"0232"}
    good = exif.tobytes()
    num = 3000 if whole else 60
    for i in range(num):
        tags = bytearray(good)
        for _ in range(draw.randrange(1, 20)):
            tags[draw.randrange(len(tags))] = draw.randrange(256)
        at = tags.find(b"\x12\x01")  # the orientation is left as it is: any other would be a valid one
        del tags[at : at + (12 if at >= 0 else 0)]
        body = bytes(tags[6:]) if i % 3 else draw.randbytes(draw.randrange(200))
        profile = zlib.compress(draw.randbytes(300))
        pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels_of(5000 + i)))
        extra = [png_chunk(b"eXIf", body), png_chunk(b"iCCP", b"p\0\0" + profile), png_chunk(b"IDAT", pixels)]
        (root / "ant" / f"x{i:04}.png").write_bytes(png(16, 16, 8, 2, *extra))
    task = load(root, tmp_path / "cache")
    found = {image.tobytes() for part in (task.train, task.test) for image in part.pixels_NHWC}
    assert {pixels_of(5000 + i).tobytes() for i in range(num)} <= found


def app(number: int, body: bytes) -> bytes:
    return bytes([0xFF, 0xE0 + number]) + struct.pack(">H", len(body) + 2) + body


def tiff_with_a_wrong_tag(image: Image.Image, tag: int, count: int) -> bytes:
    """A TIFF one of whose texts, or whose profile, is said to be so long."""
    data = bytearray(encoded(image, "TIFF", description="x" * 9, icc_profile=bytes(99)))
    (at,) = struct.unpack("<I", data[4:8])
    entries = range(at + 2, at + 2 + 12 * struct.unpack("<H", data[at : at + 2])[0], 12)
    (entry,) = [entry for entry in entries if struct.unpack("<H", data[entry : entry + 2])[0] == tag]
    data[entry + 4 : entry + 8] = struct.pack("<I", count)
    return bytes(data)


def test_metadata_that_pillow_refuses_does_not_refuse_an_image(tmp_path: Path) -> None:
    """Of each file the pixels are whole; what else is in it is large, damaged or cut off."""
    upright = pixels_of(1, 16, 24)
    image = Image.fromarray(upright)
    exif = Image.Exif()
    exif[0x0112] = 3
    jpeg = encoded(image, "JPEG", exif=exif)
    expected = {"png": upright, "jpg": np.array(Image.open(BytesIO(jpeg))), "tif": upright}
    damaged = png_chunk(b"tEXt", b"a\0b")[:-1] + b"!"
    turned = encoded(image, "PNG", exif=exif)
    end = turned.index(b"IEND") - 4
    found = {
        "profile.png": encoded(image, "PNG", exif=exif, icc_profile=bytes(2**21)),
        "text.png": turned[:end] + png_chunk(b"iTXt", b"a\0\0\0\0\0" + b"b" * 2**21) + turned[end:],
        "packed.png": turned[:33] + png_chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(2**21)) + turned[33:],
        "damaged.png": turned[:33] + damaged + turned[33:],
        "profile.jpg": jpeg[:2] + app(2, b"ICC_PROFILE\0") + jpeg[2:],
        "preview.jpg": jpeg[:2] + app(2, b"MPF\0II*\0\x08\0\0\0") + app(2, b"ICC_PROFILE\0\1") + jpeg[2:],
        "text.tif": tiff_with_a_wrong_tag(image, 270, 2**30),
        "profile.tif": tiff_with_a_wrong_tag(image, 34675, 2**30),
    }
    for name, data in found.items():
        (tmp_path / name).write_bytes(data)
        assert why_not(tmp_path / name) == "", name
        pixels_HWC, picture = decode(tmp_path / name, 16)
        assert picture.is_turned == (not name.endswith("tif")), name
        turn = -1 if picture.is_turned else 1
        assert np.array_equal(pixels_HWC, expected[name[-3:]][::turn, ::turn][:, 4:20]), name


def why_not(path: Path) -> str:
    """Why an image cannot be read; "" for one that can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert decode(path, 16)[0].shape == (16, 16, 3)
        except Exception as error:
            return reason(error)
    return ""


def test_mutated_images_are_read_or_refused(whole: bool, tmp_path: Path, record_figures: Callable[..., None]) -> None:
    draw, root = random.Random(1), make_parts(tmp_path / "images")
    image = Image.fromarray(pixels_of(7, 40, 40))
    seeds = {
        "jpg": [encoded(each, "JPEG", progressive=True) for each in (image, image.convert("CMYK"), image.convert("L"))],
        "png": [encoded(image, "PNG"), encoded(image.convert("P"), "PNG"), encoded(image.convert("LA"), "PNG")],
        "gif": [encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)])],
        "webp": [encoded(image, "WEBP"), encoded(image, "WEBP", lossless=True)],
        "tif": [encoded(image, "TIFF", compression=how) for how in ("raw", "tiff_lzw", "jpeg", "tiff_deflate")],
        "bmp": [encoded(image, "BMP")],
    }
    num = 20_000 if whole else 150
    for i in range(num):
        suffix = draw.choice(list(seeds))
        data = bytearray(draw.choice(seeds[suffix]))
        for _ in range(draw.randrange(1, 8)):
            data[draw.randrange(min(len(data), draw.choice((30, 300, 3000))))] = draw.choice((0, 1, 127, 128, 255))
        if draw.random() < 0.2:
            del data[draw.randrange(len(data)) :]
        (root / "train/ant" / f"x{i:05}.{suffix}").write_bytes(data)
    started = time.monotonic()
    slowest_s, num_read = 0.0, 0
    with flat_memory(400):
        said = refusal(root, tmp_path / "cache")
        for path in sorted((root / "train/ant").glob("x*")):
            before = time.monotonic()
            reason = why_not(path)
            num_read += not reason
            assert "\n" not in reason
            slowest_s = max(slowest_s, time.monotonic() - before)
    assert f"{num - num_read:,} of {18 + num:,} images cannot be read, first 'train/ant/x" in said
    assert 0 < num_read < num and slowest_s < 5
    seconds = round(time.monotonic() - started, 1)
    record_figures("mutated_images", images=num, read=num_read, slowest_s=round(slowest_s, 2), seconds=seconds)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files through /proc")
def test_no_file_is_left_open(tmp_path: Path) -> None:
    root = make_parts(tmp_path / "images")
    for name, data in (("x.png", b""), ("y.jpg", jpeg(20_000)), ("z.gif", encoded(SMALL, "GIF")[:20])):
        (root / "train/ant" / name).write_bytes(data)
    refusal(root, tmp_path / "cache")  # may load what decodes
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        refusal(root, tmp_path / "cache")
    assert len(os.listdir("/proc/self/fd")) <= before
