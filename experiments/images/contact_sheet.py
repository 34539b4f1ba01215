"""Pictures in rows with captions above them, as one large picture; and captions that fit above or below pictures."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
"""A picture of any size, (height, width, 1 or 3)."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FONT = ImageFont.load_default(12)
HEADING = ImageFont.load_default(16)
LACKING = "[^\x20-\u024f]"
"""Letters that the font lacks: those beyond Latin ones."""

LEAST_PX, MOST_PX = 96, 224
"""Sides of cells: small images are enlarged by a whole factor to about the one, large ones shrunk to the other."""
_WIDTH_PX, _GAP_PX, _LINE_PX, _MARGIN_PX = 1200, 4, 20, 16
_PAPER, _INK = (250, 250, 250), (20, 20, 20)


class Group(NamedTuple):
    """Columns that belong together, such as the pictures of a class: what stands above them, and how many they are."""

    caption: str
    size: int


class Row(NamedTuple):
    """A picture for each column of the sheet."""

    caption: str
    pictures: Sequence[Pixels]


def cell_px(image_px: int) -> int:
    """The side of the squares that show images of that side."""
    return min(MOST_PX, image_px * max(1, round(LEAST_PX / image_px)))


def groups_abreast(size: int, cell: int) -> int:
    """How many groups of that many cells go beside each other."""
    return max(1, _WIDTH_PX // (size * (cell + _GAP_PX)))


def block_height(heights: Sequence[int]) -> int:
    """Of groups that stand beside each other, with rows of these heights."""
    return 2 * _LINE_PX + sum(_LINE_PX + height + 2 * _GAP_PX for height in heights)


def draw_sheet(title: str, groups: Sequence[Group], rows: Sequence[Row], cell: int) -> Image.Image:
    """The title, and below it the groups with all rows: as many beside each other as there is room for."""
    cells = [[_in_cell(picture, cell) for picture in row.pictures] for row in rows]
    height = block_height([max(picture.height for picture in row) for row in cells])
    abreast = groups_abreast(max(group.size for group in groups), cell)
    blocks = [groups[start : start + abreast] for start in range(0, len(groups), abreast)]
    width = max(480, *(sum(_width(group, cell) for group in block) for block in blocks)) + 2 * _MARGIN_PX
    sheet = Image.new("RGB", (width, 2 * _MARGIN_PX + _LINE_PX + len(blocks) * height), _PAPER)
    _write(sheet, _MARGIN_PX, _MARGIN_PX, title, width, HEADING)
    top, column = 2 * _MARGIN_PX + _LINE_PX, 0
    for block in blocks:
        num = sum(group.size for group in block)
        _draw_block(sheet, top, block, rows, [row[column : column + num] for row in cells], cell)
        top, column = top + height, column + num
    return sheet


def _draw_block(
    sheet: Image.Image,
    top: int,
    block: Sequence[Group],
    rows: Sequence[Row],
    cells: Sequence[Sequence[Image.Image]],
    cell: int,
) -> None:
    """cells: of the block's columns, a list for each row."""
    left, lefts = _MARGIN_PX, list[int]()
    for group in block:
        _write(sheet, left, top, group.caption, left + _width(group, cell), HEADING)
        lefts += [left + k * (cell + _GAP_PX) for k in range(group.size)]
        left += _width(group, cell)
    top += _LINE_PX
    for row, pictures in zip(rows, cells, strict=True):
        _write(sheet, _MARGIN_PX, top + 5, row.caption, sheet.width, FONT)
        height = max(picture.height for picture in pictures)
        top += _LINE_PX
        for x, picture in zip(lefts, pictures, strict=True):
            sheet.paste(picture, (x + (cell - picture.width) // 2, top + (height - picture.height) // 2))
        top += height + 2 * _GAP_PX


def _write(sheet: Image.Image, left: int, top: int, text: str, right: int, font: Font) -> None:
    fitting = shortened(text, right - left - _MARGIN_PX, font)
    ImageDraw.Draw(sheet).text((left, top), fitting, _INK, font)


def _width(group: Group, cell: int) -> int:
    return group.size * (cell + _GAP_PX) + 3 * _GAP_PX


def _in_cell(pixels_HWC: Pixels, cell: int) -> Image.Image:
    """Enlarged by a whole factor, so that its pixels are seen as such; shrunk where it is too large."""
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels_HWC, (*pixels_HWC.shape[:2], 3))))
    factor = cell / max(picture.size)
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    factor = int(factor) if factor >= 1 else factor
    return picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))), how)


def shortened(text: str, width_px: float, font: Font = FONT) -> str:
    """As much of the text as fits; letters that the font lacks as question marks."""
    text = re.sub(LACKING, "?", text)
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(f"{text}...") > width_px:
        text = text[:-1]
    return f"{text}..."
