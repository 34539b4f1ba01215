"""What a file is by its first bytes, whatever it is called; and why one is not an image that is decoded, in words."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

from PIL import TiffImagePlugin
from PIL.ExifTags import Base

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
"""What is decoded, whatever a file is called: of others, Pillow would hand PostScript to Ghostscript, which runs it."""

SAMPLE_FORMAT = 339
"""The tag of a TIFF that says whether values have a sign, or a floating point."""

_DECODED = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP", b"GIF8": "GIF",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
}  # fmt: skip
_OTHER_IMAGES = {
    b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL", b"\xff\x0a": "JPEG XL", b"8BPS": "a Photoshop file",
}  # fmt: skip
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
}
_NOT_IMAGES = {
    b"version https://git-lfs": "a pointer of Git LFS: fetch it with 'git lfs pull'",
    b"%PDF": "a PDF: save its pictures as PNG or JPEG", b"PK\x03\x04": "a zip archive: unpack it",
    b"\x1f\x8b": "a gzip archive: unpack it", b"Rar!": "a RAR archive: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
}  # fmt: skip
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<svg")


def image_format(path: Path) -> str:
    """Its format, if it is an image that would be decoded by its first bytes; else ""."""
    with suppress(OSError), open(path, "rb") as file:
        return _decoded_format(file.read(16))
    return ""


def why_not_decoded(path: Path) -> str:
    """In words, for a file that Pillow does not know."""
    start = b""
    with suppress(OSError), open(path, "rb") as file:
        start = file.read(256)
    if start[4:8] == b"ftyp" and (brand := _BRANDS.get(start[8:12])):
        return _to_convert(brand)
    if other := _named(_OTHER_IMAGES, start):
        return _to_convert(other)
    if _decoded_format(start) == "TIFF" and (why := _why_not_tiff(path)):
        return why
    known = f"not an image ({', '.join(FORMATS)})"
    if not start:
        return f"{known} but an empty file"
    if what := _named(_NOT_IMAGES, start):
        return f"{known} but {what}"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        return f"{known} but {'an SVG drawing' if b'<svg' in start.lower() else 'a web page'}"
    if damaged := _decoded_format(start):
        return f"{known} but the beginning of a {damaged}: the file is damaged"
    return known


def _named(names: dict[bytes, str], start: bytes) -> str:
    return next((name for beginning, name in names.items() if start.startswith(beginning)), "")


def _decoded_format(start: bytes) -> str:
    return "WEBP" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else _named(_DECODED, start)


def _to_convert(what: str) -> str:
    return f"{what}, which is not decoded: convert it to PNG or JPEG"


def _why_not_tiff(path: Path) -> str:
    """By its own tags; "" where they cannot be read."""
    with suppress(Exception), open(path, "rb") as file:
        head = file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8 * (head[2:3] == b"+" or head[3:4] == b"+")))
        file.seek(tags.next)
        tags.load(file)
        if (compression := tags.get(Base.Compression, 1)) not in TiffImagePlugin.COMPRESSION_INFO:
            return f"a TIFF whose compression, number {compression}, is not decoded: save it without"
        return undecoded_tiff(tags) if Base.ImageWidth in tags and Base.ImageLength in tags else ""
    return ""


def undecoded_tiff(tags: TiffImagePlugin.ImageFileDirectory_v2) -> str:
    """What a TIFF holds that is not decoded, such as 13 bands of 16 bits, in words."""
    bits = tuple(tags.get(Base.BitsPerSample, (1,)))
    num = int(tags.get(Base.SamplesPerPixel, len(bits)))
    (width, _), *_ = Counter(bits).most_common(1)
    kind = {2: "signed ", 3: "floating-point "}.get(max(tags.get(SAMPLE_FORMAT, (1,))), "")
    planes = " in separate planes" if num > 1 and tags.get(Base.PlanarConfiguration, 1) == 2 else ""
    holds = f"a TIFF of {num:,} band{'s' * (num != 1)} of {kind}{width:,} bit{'s' * (width != 1)}{planes}"
    return f"{holds}, which is not decoded: convert it to 8-bit RGB or grey"
