"""One image file to pixels: first frame, upright, over white, its middle square; and what was lost on the way."""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
"""What is decoded, whatever a file is called: of others, Pillow would hand PostScript to Ghostscript, which runs it."""
MAX_IMAGE_PIXELS = 89_478_485
"""Pillow's own limit. A larger image is refused before it is decoded."""
GREY_BITS = 16
"""Of a 16-bit grey value, unless a folder of them uses fewer."""

_MAX_SECOND_LOOK = 2**28
"""Bytes of a damaged file that are held to look at its pixels alone."""


class Picture(NamedTuple):
    """What is known of a file once it was decoded.

    size: width and height of the upright picture. mode: Pillow's, with ";16" for 16 bits a channel.
    is_turned: by its EXIF tag. has_more: frames or pages than the first. grey: darkest and brightest value of 16-bit
    grey. darkest, brightest: of the pixels that were made of it. is_plain: these are of one colour throughout.
    """

    size: tuple[int, int]
    mode: str
    is_turned: bool
    has_more: bool
    grey: tuple[int, int] | None
    darkest: int
    brightest: int
    is_plain: bool


def decode(path: Path, image_px: int, grey_bits: int = GREY_BITS) -> tuple[npt.NDArray[np.uint8], Picture]:
    """One image as RGB, (image_px, image_px, 3): first frame, turned upright by its EXIF tag, over white.

    grey_bits: how many bits of 16-bit grey values are used; brighter ones than these allow become white.
    Raises a dozen kinds of exceptions, for which `reason` has words. Damaged texts, profiles and tags are no reason.
    """
    try:
        return _decode(path, image_px, grey_bits)
    except Exception:
        pixels_only = _without_metadata(path)
        if pixels_only is None:
            raise
    return _decode(pixels_only, image_px, grey_bits)


def fit_square(image: Image.Image, image_px: int) -> Image.Image:
    """Centre crop to a square, resized to `image_px` with antialiasing; an image of that size is returned untouched."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == image_px:
        return image if image.size == (side, side) else image.crop(box)
    return image.resize((image_px, image_px), Image.Resampling.BICUBIC, box)


def to_8_bits(value: npt.NDArray[np.integer], grey_bits: int) -> npt.NDArray[np.uint8]:
    """Grey values of so many bits at one scale to 8 bits; of 16 bits, the upper 8 of 257ths."""
    largest = 2**grey_bits - 1
    return (value.clip(0, largest).astype(np.uint32) * 255 // largest).astype(np.uint8)


def reason(error: Exception) -> str:
    """Why an image cannot be read, as one line."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image ({', '.join(FORMATS)})"  # Pillow's own message is the path again
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _decode(file: Path | BytesIO, image_px: int, grey_bits: int) -> tuple[npt.NDArray[np.uint8], Picture]:
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_IMAGE_PIXELS:
            raise ValueError(f"{width} x {height} pixels are too many")
        mode = image.mode + (";16" if _has_deep_colour(image) else "")
        # a JPEG much larger than needed is decoded at a fraction of its size, still at least twice the side wanted
        image.draft(None, (2 * image_px, 2 * image_px))
        # a TIFF is turned while it is loaded, and forgets that it was
        orientation = image.tag_v2.get(Base.Orientation, 1) if image.format == "TIFF" else None  # type: ignore[attr-defined]
        image.load()
        with suppress(Exception):  # where its tags are damaged, an image is taken as it lies
            if orientation is None:
                orientation = image.getexif().get(Base.Orientation, 1)
            ImageOps.exif_transpose(image, in_place=True)
        if (image.width > image.height) != (width > height):
            width, height = height, width
        rgb, grey = _rgb(image, grey_bits)
        pixels_HWC = np.asarray(fit_square(rgb, image_px))
        has_more = False
        with suppress(Exception):  # what follows the first frame may be damaged; last, since it may move to the second
            # behind a camera's JPEG lie previews and depth maps
            has_more = image.format != "MPO" and getattr(image, "is_animated", False)
    is_plain = bool((pixels_HWC == pixels_HWC[0, 0]).all())
    darkest, brightest = int(pixels_HWC.min()), int(pixels_HWC.max())
    is_turned = orientation in range(2, 9)
    return pixels_HWC, Picture((width, height), mode, is_turned, has_more, grey, darkest, brightest, is_plain)


def _has_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Whether the file has 16 bits a channel, of which Pillow keeps the upper 8. Grey has a mode of its own."""
    if image.mode.startswith("I") or not image.tile:
        return False
    args = image.tile[0].args
    raw = args[0] if isinstance(args, tuple) and args else args
    return isinstance(raw, str) and ";16" in raw


def _rgb(image: Image.Image, grey_bits: int) -> tuple[Image.Image, tuple[int, int] | None]:
    """The image as RGB, and the darkest and the brightest value of one in 16-bit grey."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, None
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them to 8
        values = np.asarray(image)
        darkest, brightest = int(values.min()), int(values.max())
        if darkest < 0 or brightest > 65535:
            raise ValueError("grey values of more than 16 bits are not supported; save them as 16-bit grey")
        return Image.fromarray(to_8_bits(values, grey_bits)).convert("RGB"), (darkest, brightest)
    if image.mode == "F":
        raise ValueError("grey values in floating point are not supported; save them as 16-bit grey")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB"), None
    return image.convert("RGB"), None


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
