"""The same drawing for a screen in the dark: a style sheet in the SVG, which a browser obeys where the page is dark.

Paper becomes the page's own dark, ink becomes light, and greys change places; colours of lines are lightened. Colour
maps and pictures stay as they are, as do words on them (style.ON_DARK, style.ON_LIGHT, which are no greys).
"""

import re
from collections.abc import Iterable

from analysis.figures.style import COLORS

PAPER, INK = (0x1C, 0x21, 0x25), (0xEC, 0xEF, 0xF1)
"""What white and black become: the page's --card in the dark, and a text on it."""

_LIGHTENED = 0.3
"""How much white there is in a line's colour."""

_USED = re.compile(rb"(?:fill|stroke): (#[0-9a-f]{6})")
_DIMMED = "image, [id^=QuadMesh] { filter: brightness(.87); }"
"""Pictures and colour maps, which have much white."""

_NO_CELL = ":not([id^=QuadMesh] *)"
"""A colour map may hold a grey."""


def for_any_light(svg: bytes) -> bytes:
    """The drawing with such a style sheet; itself where it is no drawing of matplotlib's."""
    start = svg.find(b"<defs>")
    rules = [f"svg {{ fill: {_hex(INK)}; }}", _DIMMED]  # black is not written down
    for color in sorted({found.decode() for found in _USED.findall(svg)}):
        dark = in_the_dark(color)
        if dark != color:
            rules.append(f'[style*="fill: {color}"]{_NO_CELL} {{ fill: {dark} !important; }}')
            rules.append(f'[style*="stroke: {color}"] {{ stroke: {dark} !important; }}')
    sheet = "\n".join(["<style>@media (prefers-color-scheme: dark) {", *rules, "}</style>\n"]).encode()
    return svg[:start] + sheet + svg[start:] if start >= 0 else svg


def in_the_dark(color: str) -> str:
    """What a colour such as #ffffff becomes."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    if red == green == blue:
        return _hex(ink + (paper - ink) * red / 255 for ink, paper in zip(INK, PAPER, strict=True))
    if color in (_hex(255 * c for c in rgb) for rgb in COLORS):
        return _hex(c + (255 - c) * _LIGHTENED for c in (red, green, blue))
    return color


def _hex(channels: Iterable[float]) -> str:
    return f"#{bytes(map(round, channels)).hex()}"
