"""One image file to pixels: first frame, upright, square, 8 bits, opaque; and what was lost on the way."""

import logging
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base

from experiments.images.tasks.image_files.contents import FORMATS, SAMPLE_FORMAT, undecoded_tiff, why_not_decoded
from experiments.images.tasks.reading import GROUNDS, USUAL, ToRgb
from ledger.config import Fit

MAX_IMAGE_PIXELS = 89_478_485
"""Half of Pillow's own limit. An image of which more would be decoded is refused before it is."""
DEEP_BITS = 16
"""Most bits of a channel."""
FitOrWhole = Fit | Literal["whole"]
"""How a picture comes into a square; `whole`: without bars, so that only its longer side is as long as the square's."""
_NEARLY_ONE_COLOUR = 16
"""Levels of 256, in each channel."""

_LOWER_RAW = {"LA;16B": "RGBA"} | {
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBX", "RGBA", "CMYK")
    for order, other in (("L", "B"), ("B", "L"), ("N", "B" if sys.byteorder == "little" else "L"))
}
"""Read in one byte order, of 16 bits Pillow keeps the upper 8; read in the other, what are the lower 8 then."""

_MAX_SECOND_LOOK = 2**28
"""Bytes of a damaged file that are held to look at its pixels alone."""

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it says of a file, the refusal of that file says in words


class Alpha(NamedTuple):
    """How much of a picture is transparent.

    is_ignored: all of it is, and yet it has several colours: they are read as if it were opaque. is_veiled: most of it
    is neither opaque nor clear. lost_over: the grounds over which it is nearly of one colour.
    """

    is_ignored: bool
    is_veiled: bool
    lost_over: frozenset[str]


class Picture(NamedTuple):
    """What is known of a file once it was decoded.

    size: width and height of the upright picture. mode: Pillow's, with ";16" for 16 bits a channel.
    is_turned: by its EXIF tag. has_more: frames or pages than the first. grey: darkest and brightest value of 16-bit
    grey. deep_bits: of a value of 16 bits, grey or colour, how many are used; 0 without such. floats: lowest and
    highest value of grey in floating point. alpha: None if opaque.
    darkest, brightest: of the pixels that were made of it, without bars. is_plain: these are of one colour throughout.
    is_grey: none of them has another colour than grey.
    """

    size: tuple[int, int]
    mode: str
    is_turned: bool
    has_more: bool
    grey: tuple[int, int] | None
    deep_bits: int
    floats: tuple[float, float] | None
    alpha: Alpha | None
    darkest: int
    brightest: int
    is_plain: bool
    is_grey: bool


def decode(
    path: Path, image_px: int, to_rgb: ToRgb = USUAL, fit: FitOrWhole = "crop"
) -> tuple[npt.NDArray[np.uint8], Picture]:
    """One image as RGB, (image_px, image_px, 3): first frame, turned upright by its EXIF tag, made square.

    Values of 16 bits or in floating point that are brighter than `to_rgb` allows become white.
    Raises a dozen kinds of exceptions, for which `reason` has words. Damaged texts, profiles and tags are no reason.
    """
    try:
        try:
            return _decode(path, image_px, to_rgb, fit)
        except Exception:
            if (pixels_only := _without_metadata(path)) is None:
                raise
        return _decode(pixels_only, image_px, to_rgb, fit)
    except UnidentifiedImageError as error:
        raise ValueError(why_not_decoded(path)) from error


def fitted(image: Image.Image, image_px: int, fit: FitOrWhole = "crop") -> Image.Image:
    """The image resized with antialiasing, but not padded; one that has its size already is returned untouched."""
    if fit != "crop":
        width, height = (max(1, round(side / max(image.size) * image_px)) for side in image.size)
        size = (image_px, image_px) if fit == "stretch" else (width, height)
        return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == image_px:
        return image if image.size == (side, side) else image.crop(box)
    return image.resize((image_px, image_px), Image.Resampling.BICUBIC, box)


def _padded(image: Image.Image, image_px: int) -> Image.Image:
    """The image in the middle of a black square."""
    if image.size == (image_px, image_px):
        return image
    square = Image.new(image.mode, (image_px, image_px))
    square.paste(image, (round((image_px - image.width) / 2), round((image_px - image.height) / 2)))
    return square


def to_8_bits(value: npt.NDArray[np.integer], grey_bits: int) -> npt.NDArray[np.uint8]:
    """Grey values of so many bits at one scale to 8 bits; of 16 bits, the upper 8 of 257ths."""
    largest = 2**grey_bits - 1
    return (value.clip(0, largest).astype(np.uint32) * 255 // largest).astype(np.uint8)


def reason(error: Exception) -> str:
    """Why an image cannot be read, as one line."""
    if isinstance(error, Image.DecompressionBombError):
        return f"{str(error).partition(',')[0]}: make the image smaller"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _decode(
    file: Path | BytesIO, image_px: int, to_rgb: ToRgb, fit: FitOrWhole
) -> tuple[npt.NDArray[np.uint8], Picture]:
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        _check_tags(image)
        raw = _raw_mode(image)
        mode = image.mode + (";16" if ";16" in raw and not image.mode.startswith("I") else "")
        _draft(image, image_px)
        zero_is_white = image.format == "TIFF" and _tags(image).get(Base.PhotometricInterpretation) == 0
        orientation = _load_upright(image)
        if (image.width > image.height) != (width > height):
            width, height = height, width
        grey, deep_bits, floats, alpha = None, 0, None, None
        if image.mode.startswith("I"):
            rgb, grey = _of_grey(image, to_rgb.grey_bits, zero_is_white)
            deep_bits = max(grey[1].bit_length(), 1)
        elif image.mode == "F":
            rgb, floats = _of_floats(image, to_rgb.float_range, zero_is_white)
        else:
            colour: Image.Image = image
            if ";16" in raw:
                colour, deep_bits = _of_deep_colour(image, raw, file, to_rgb.grey_bits)
            rgb, alpha = _opaque(colour, image_px, to_rgb.ground, fit)
        shown = fitted(rgb, image_px, fit)
        shown_HWC = pixels_HWC = np.asarray(shown)
        if fit == "pad":
            pixels_HWC = np.asarray(_padded(shown, image_px))
        has_more = False
        with suppress(Exception):  # what follows the first frame may be damaged; last, since it may move to the second
            # behind a camera's JPEG lie previews and depth maps
            has_more = image.format != "MPO" and getattr(image, "is_animated", False)
    return pixels_HWC, Picture(
        size=(width, height),
        mode=mode,
        is_turned=orientation in range(2, 9),
        has_more=has_more,
        grey=grey,
        deep_bits=deep_bits,
        floats=floats,
        alpha=alpha,
        darkest=int(shown_HWC.min()),
        brightest=int(shown_HWC.max()),
        is_plain=bool((shown_HWC == shown_HWC[0, 0]).all()),
        is_grey=bool((shown_HWC == shown_HWC[..., :1]).all()),
    )


def _tags(image: ImageFile.ImageFile) -> TiffImagePlugin.ImageFileDirectory_v2:
    return image.tag_v2  # type: ignore[attr-defined]


def _check_tags(image: ImageFile.ImageFile) -> None:
    """Raise ValueError for a TIFF whose values Pillow would take for others: it reads each band as unsigned bytes."""
    if image.format != "TIFF":
        return
    tags = _tags(image)
    bits, signs = tags.get(Base.BitsPerSample, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    in_planes = tags.get(Base.SamplesPerPixel, 1) > 1 and tags.get(Base.PlanarConfiguration, 1) == 2
    if (in_planes and max(bits) > 8) or (max(bits) == 8 and 2 in signs):
        raise ValueError(undecoded_tiff(tags))


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How values lie in the file, such as "RGB;16B" where Pillow keeps the upper 8 of 16 bits."""
    args = image.tile[0].args if image.tile else None
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def _draft(image: ImageFile.ImageFile, image_px: int) -> None:
    """Have a JPEG much larger than needed decoded at a fraction of its size, still at least twice the side wanted.

    Raises ValueError for an image of which too much would be decoded all the same.
    """
    width, height = image.size
    image.draft(None, (2 * image_px, 2 * image_px))
    # and yet the whole of one that comes in passes is held
    num_pixels = width * height if image.info.get("progressive") else image.width * image.height
    if num_pixels > MAX_IMAGE_PIXELS:
        raise ValueError(
            f"{width} x {height} pixels are too many ({MAX_IMAGE_PIXELS:,} are the limit): make the image smaller"
        )


def _load_upright(image: ImageFile.ImageFile) -> int | None:
    """Decode and turn it; returns its EXIF tag."""
    # a TIFF is turned while it is loaded, and forgets that it was
    orientation = _tags(image).get(Base.Orientation, 1) if image.format == "TIFF" else None
    image.load()
    with suppress(Exception):  # where its tags are damaged, an image is taken as it lies
        if orientation is None:
            orientation = image.getexif().get(Base.Orientation, 1)
        ImageOps.exif_transpose(image, in_place=True)
    return orientation


def _of_grey(image: Image.Image, grey_bits: int, zero_is_white: bool) -> tuple[Image.Image, tuple[int, int]]:
    """16-bit grey, which Pillow would clip to 8, as RGB; and its extremes."""
    values = np.asarray(image)
    darkest, brightest = int(values.min()), int(values.max())
    if darkest < 0 or brightest > 65535:
        raise ValueError("grey values below 0 or of more than 16 bits are not supported; save them as 16-bit grey")
    grey = to_8_bits(values, grey_bits)
    return Image.fromarray(255 - grey if zero_is_white else grey).convert("RGB"), (darkest, brightest)


def _of_floats(
    image: Image.Image, span: tuple[float, float] | None, zero_is_white: bool
) -> tuple[Image.Image, tuple[float, float]]:
    """Floating-point grey as RGB; and its extremes, which become black and white where nothing else is known."""
    values = np.asarray(image, np.float64)
    lowest, highest = float(values.min()), float(values.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ValueError("has floating-point values that are no numbers (NaN, or infinite); put others in their place")
    low, high = span or (lowest, highest)
    grey = ((values - low) / (high - low or 1)).clip(0, 1) * 255
    grey_HW = (255 - grey if zero_is_white else grey).round().astype(np.uint8)
    return Image.fromarray(grey_HW).convert("RGB"), (lowest, highest)


def _of_deep_colour(image: ImageFile.ImageFile, raw: str, file: Path | BytesIO, bits: int) -> tuple[Image.Image, int]:
    """The upper 8 of so many bits of colour of 16 bits a channel; and how many of them this image uses."""
    upper = np.asarray(image)
    num_colours = 4 if image.mode == "CMYK" else 3
    used = 8 + int(upper[..., :num_colours].max()).bit_length()
    if bits == DEEP_BITS:
        return image, used
    values = upper.astype(np.uint32) << 8
    if lower_raw := _LOWER_RAW.get(raw):
        if isinstance(file, BytesIO):
            file.seek(0)
        with Image.open(file, formats=FORMATS) as again:
            again.tile = [
                tile._replace(args=(lower_raw, *tile.args[1:]) if isinstance(tile.args, tuple) else lower_raw)
                for tile in again.tile
            ]
            _load_upright(again)
            lower = np.asarray(again)
        values |= lower[..., [1, 1, 1, 3]] if raw == "LA;16B" else lower
    scaled = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if image.mode == "RGBA":
        scaled[..., 3] = upper[..., 3]
    return Image.fromarray(scaled, image.mode), used


def _opaque(image: Image.Image, image_px: int, ground: str, fit: FitOrWhole) -> tuple[Image.Image, Alpha | None]:
    """The image as RGB over the ground, and what is known of its transparency."""
    if image.mode == "LAB":
        raise ValueError("Lab colours are not supported; convert it to RGB")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, None
    if not image.has_transparency_data:
        return image.convert("RGB"), None
    colour = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    alpha = colour.getchannel("A")
    least, most = alpha.getextrema()
    if least == 255:
        return colour.convert("RGB"), None
    if most == 0 and not _is_nearly_plain(colour.convert("RGB"), 1):
        return colour.convert("RGB"), Alpha(is_ignored=True, is_veiled=False, lost_over=frozenset())
    shades = alpha.histogram()
    small = fitted(colour, image_px, fit)
    lost_over = frozenset(name for name in GROUNDS if _is_nearly_plain(_over(small, name), _NEARLY_ONE_COLOUR))
    return _over(colour, ground), Alpha(False, sum(shades[1:255]) > sum(shades) / 2, lost_over)


def _over(colour: Image.Image, ground: str) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", colour.size, ground), colour).convert("RGB")


def _is_nearly_plain(rgb: Image.Image, num_levels: int) -> bool:
    pixels_HWC = np.asarray(rgb)
    return bool((np.ptp(pixels_HWC, axis=(0, 1)) < num_levels).all())


def _without_metadata(path: Path) -> BytesIO | None:
    """The bytes of a PNG, JPEG or TIFF that its pixels need, and its EXIF tags; None for any other file.

    Pillow refuses the whole of an image whose texts or colour profile are damaged or large, although nothing here
    needs them. They are neither unpacked nor kept.
    """
    pixels_only = BytesIO()
    with suppress(OSError), open(path, "rb") as file:
        start = file.read(8)
        if start == b"\x89PNG\r\n\x1a\n":
            pieces = _png_pieces(file)
        elif start.startswith(b"\xff\xd8\xff"):
            file.seek(2)
            start, pieces = start[:2], _jpeg_pieces(file)
        elif start.startswith((b"II*\0", b"MM\0*")):
            pieces = _tiff_pieces(file, "little" if start.startswith(b"II") else "big", start[4:])
        else:
            return None
        pixels_only.write(start)
        for piece in pieces:
            if pixels_only.tell() + len(piece) > _MAX_SECOND_LOOK:
                return None
            pixels_only.write(piece)
        pixels_only.seek(0)
        return pixels_only
    return None


def _png_pieces(file: BinaryIO) -> Iterator[bytes]:
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            yield head
            left = length + 4
            while left > 0 and (piece := file.read(min(left, 2**20))):
                left -= len(piece)
                yield piece
        elif kind == b"eXIf" and length < 2**16:
            body = file.read(length + 4)
            if zlib.crc32(kind + body[:-4]) == int.from_bytes(body[-4:]):
                yield head + body
        else:
            file.seek(length + 4, 1)


def _jpeg_pieces(file: BinaryIO) -> Iterator[bytes]:
    while len(head := file.read(4)) == 4:
        marker, length = head[1], int.from_bytes(head[2:])
        if head[0] != 0xFF or marker == 0xDA or length < 2:  # the pixels begin, or it is not a JPEG
            yield head
            break
        body = file.read(length - 2)
        is_metadata = marker == 0xFE or (0xE1 <= marker <= 0xEF and marker != 0xEE)  # Adobe's says what the colours are
        if not is_metadata or (marker == 0xE1 and body.startswith(b"Exif\0\0")):
            yield head + body
    while piece := file.read(2**20):
        yield piece


def _tiff_pieces(file: BinaryIO, order: Literal["little", "big"], offset: bytes) -> Iterator[bytes]:
    """All of it behind its head, but the first page's tags of no use here made to be of no type, which all skip."""
    data = bytearray(file.read(_MAX_SECOND_LOOK))
    at = max(int.from_bytes(offset, order) - 8, 0)  # of the first page's tags, from behind the head
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(data[at : at + 2], order), 12):
        tag = int.from_bytes(data[entry : entry + 2], order)
        if tag >= 700 or tag in (269, 270, 271, 272, 285, 305, 306, 315, 316):  # profiles and EXIF; texts
            data[entry + 2 : entry + 4] = b"\0\0"
    yield bytes(data)
