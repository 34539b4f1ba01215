"""The contact sheet that lies beside a report, as the report shows it."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from analysis.reports import CONTACT_SHEET

MAX_BYTES = 700_000
"""Of the picture in the page, which is sent by mail: a larger one is a JPEG, and as small as it takes."""
_QUALITY = 85


class Sheet(NamedTuple):
    """source: the picture in an address. size_px: width and height in the page."""

    source: str
    size_px: tuple[int, int]


def sheet_bytes(out: Path | None) -> bytes:
    """The file's bytes; none where there is no such file."""
    file = out / CONTACT_SHEET if out else None
    return file.read_bytes() if file and file.is_file() else b""


def shown_sheet(out: Path | None) -> Sheet | None:
    """The sheet in the folder of a report; None without one, or where it is no whole picture."""
    data = sheet_bytes(out)
    try:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
    except (
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
    ):  # as Pillow says it of damaged chunks, and of huge ones
        return None
    size_px, kind = picture.size, "png"
    while len(data) > MAX_BYTES and min(picture.size) > 1:
        if kind == "jpeg":
            picture = picture.reduce(2)
        stream, kind = io.BytesIO(), "jpeg"
        picture.save(stream, "JPEG", quality=_QUALITY)
        data = stream.getvalue()
    return Sheet(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", size_px)
