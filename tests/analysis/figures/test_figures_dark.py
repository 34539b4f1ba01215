"""The style sheet that shows a drawing in the dark."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analysis.figures import style
from analysis.figures.dark import INK, PAPER, for_any_light, in_the_dark
from analysis.figures.registry import figure_files
from tests.support.drawn_figures import drawn, study_of

STYLE_SHEET = Path(__file__).parents[3] / "analysis" / "report" / "style.css"


def light(color: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_greys_change_places_and_lines_can_be_seen() -> None:
    paper = "#" + bytes(PAPER).hex()
    assert (in_the_dark("#ffffff"), in_the_dark("#000000")) == (paper, "#" + bytes(INK).hex())
    greys = [light(in_the_dark(f"#{value:02x}{value:02x}{value:02x}")) for value in range(256)]
    assert greys == sorted(greys, reverse=True)
    for rgb in style.COLORS:
        color = in_the_dark("#" + bytes(round(255 * c) for c in rgb).hex())
        assert (light(color) + 0.05) / (light(paper) + 0.05) >= 3, color  # WCAG 1.4.11
    for stays in (style.ON_DARK, style.ON_LIGHT, "#00224e"):
        assert in_the_dark(stays) == stays


def test_paper_is_the_page_s() -> None:
    dark = STYLE_SHEET.read_text().partition("prefers-color-scheme: dark")[2]
    card = re.search(r"--card: #(\w{6})", dark)
    assert card and bytes.fromhex(card[1]) == bytes(PAPER)


@pytest.mark.parametrize("name", ["corruptions", "ablation"])
def test_each_colour_of_a_drawing_has_a_rule(tmp_path: Path, name: str) -> None:
    figure = drawn(name, study_of(tmp_path, {"cnn": [0.50, 0.52, 0.54], "stn_affine": [0.60, 0.62, 0.63]}))
    svg = figure_files(figure, ["svg"])["svg"]
    both = for_any_light(svg)
    (sheet,) = (e for e in ElementTree.fromstring(both).iter() if "prefers-color-scheme" in (e.text or ""))
    assert sheet.tag.endswith("style")
    assert both.replace(b"<style>" + str(sheet.text).encode() + b"</style>\n", b"") == svg
    rules = dict(re.findall(r'\[style\*="fill: (#\w{6})"\].*fill: (#\w{6})', str(sheet.text)))
    assert rules["#ffffff"] == "#" + bytes(PAPER).hex()
    assert style.ON_DARK not in rules and style.ON_LIGHT not in rules


def test_what_is_no_drawing_of_ours_stays() -> None:
    assert for_any_light(b"<svg/>") == b"<svg/>"
