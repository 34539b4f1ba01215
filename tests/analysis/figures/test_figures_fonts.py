"""Names in letters that our font lacks: an installed font has them, or numbers and the report stand for them."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from analysis.figures import fonts, style
from analysis.figures.fonts import class_key, class_names, families, note
from analysis.figures.registry import builders, figure_files
from analysis.findings import Findings, find
from analysis.report import NAME
from experiments.terminal.cli import main
from tests.support.drawn_figures import Scores, built, study_of
from tests.support.synthetic_ledger import STUDY, TASK, write_arm, write_study

CLASSES = ["猫", "🦊 fox"]


def write_font(file: Path, family: str, letters: str) -> Path:
    """A font in which each of the letters is a square."""
    pen = TTGlyphPen(None)
    for step, place in enumerate([(0, 0), (0, 700), (700, 700), (700, 0)]):
        (pen.lineTo if step else pen.moveTo)(place)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):04X}" for letter in letters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(file)
    return file


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Path]]:
    """The fonts of the machine: at first one that is broken and one that has other letters."""
    (tmp_path / "A Sans Regular.ttf").write_text("no font")
    found = [tmp_path / "A Sans Regular.ttf", write_font(tmp_path / "B Sans Regular.ttf", "B Sans", "鳥")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(file) for file in found])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    fonts._installed.cache_clear()
    yield found
    fonts._installed.cache_clear()


def write_classes(ledger: Path, classes: list[str]) -> Findings:
    family = [{"pose": "upright", "variant": "stn_affine", "baseline": "cnn", "interaction": False}]
    claims = {"alpha": 0.05, "margin": 0.01, "declared": True, "family": family}
    scores: Scores = {"cnn": [0.5, 0.52, 0.54], "stn_affine": [0.6, 0.61, 0.63]}
    return study_of(ledger, scores, task=TASK | {"classes": classes, "label": "鳥"}, claims=claims)


def test_an_installed_font_has_them(tmp_path: Path, installed: list[Path]) -> None:
    installed.append(write_font(tmp_path / "C Sans Regular.ttf", "C Sans", "猫🦊"))
    findings = write_classes(tmp_path / "runs", CLASSES)
    with style.applied(findings.study):
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", "B Sans", "C Sans"]
        assert (class_names(findings.study), class_key(findings.study), note(findings.study)) == (CLASSES, "", "")
        figure = built("confusion", findings)
        assert figure is not None
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # matplotlib warns of glyphs that no font has
            figure_files(figure)
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == CLASSES


def test_ordinary_names_look_for_no_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: pytest.fail("it looked"))
    task = TASK | {"classes": ["café", "Ünï", "кот"], "label": "A ± B – 100 % 😀"}
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [0.5], task=task)], task=task)
    assert families(find(tmp_path, STUDY).study) == ["DejaVu Sans"]


def test_numbers_stand_for_what_no_font_has(
    tmp_path: Path, installed: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = write_classes(tmp_path / "runs", CLASSES)
    with style.applied(findings.study):
        assert class_names(findings.study) == ["class 1", "class 2"]
        figure = built("confusion", findings)
        assert figure is not None
        figure_files(figure)
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["class 1", "class 2"]
    only = {"confusion": builders()["confusion"]}  # one figure says it all
    monkeypatch.setattr("analysis.figures.registry.builders", lambda: only)
    monkeypatch.setattr("analysis.figures.registry.NARROW", {})
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 0
    said, complained = capsys.readouterr()
    assert complained == ""
    assert "figures: no font installed here has 猫 🦊; classes have numbers in their place" in said
    page = (tmp_path / "reports" / STUDY / NAME).read_text(encoding="utf-8")
    caption = page.partition('<figure id="figure-confusion">')[2].partition("</figure>")[0]
    assert "In it, class 1 is 猫; class 2 is 🦊 fox." in caption
