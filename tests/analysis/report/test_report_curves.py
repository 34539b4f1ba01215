"""Learning curves on the page: values can be read, variants switched off; without a script there is a picture."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analysis.evaluations import epochs_of
from analysis.figures.curves import moving_curves
from analysis.findings import find
from analysis.report.page import picture, report_html
from tests.support.browser import PROGRAM, Browser
from tests.support.synthetic_ledger import STUDY, key_of, write_arm, write_study

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed here")

HOSTILE = "stn_affine+<img src=x onerror='window.hacked = 1'>\"&amp;"
ACCURACIES: dict[str, list[Any]] = {
    "cnn": [0.50, 0.52, 0.54],
    "cnn+affine": [0.30, 0.31, 0.36],
    "stn_affine": [0.60, 0.62],
    HOSTILE: [0.70, "diverged"],
    "stn_affine+rotate": ["failed", None],
}
LINES = ".panel .line"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    write_study(folder, [write_arm(folder, name, "cnn", by_seed) for name, by_seed in ACCURACIES.items()])
    findings, pixels = find(folder, STUDY), io.BytesIO()
    Image.new("RGB", (1800, 900), "white").save(pixels, "png")
    moving = json.dumps(moving_curves(findings), allow_nan=False)
    shown = replace(picture("curves", "What it shows", b"<svg/>", pixels.getvalue()), moving=moving)
    (folder / "report.html").write_text(report_html(findings, [shown]))
    return folder / "report.html"


def mean_per_cent(folder: Path, variant: str, epoch: int, name: str = "val_accuracy") -> float:
    study = find(folder, STUDY).study
    runs = [epochs_of(study, key_of("upright", variant, seed)) for seed in (11, 12, 13)[: len(ACCURACIES[variant])]]
    return 100 * float(np.mean([getattr(run[epoch - 1], name) for run in runs]))


def test_numbers_are_those_of_the_runs(report: Path) -> None:
    data = moving_curves(find(report.parent, STUDY))
    names = [score["label"] for score in data["scores"]]
    assert names == ["validation accuracy, %", "validation loss", "training accuracy, %", "training loss"]
    of = {line["variant"]: line for line in data["lines"]}
    assert [of[name]["num"] for name in ACCURACIES] == [3, 3, 2, 1, 0]
    for index, name in ((0, "val_accuracy"), (2, "train_accuracy")):
        curve = of["cnn"]["curves"][index]
        assert curve["x"] == [1, 2, 3, 4, 5, 6]
        means = [mean_per_cent(report.parent, "cnn", epoch, name) for epoch in curve["x"]]
        assert curve["mean"] == pytest.approx(means, rel=1e-3)
    assert of["cnn"]["curves"][1]["mean"] == [1.0] * 6  # a loss is no share
    assert all(half > 0 for half in of["cnn"]["curves"][0]["half"])
    two = of["stn_affine"]["curves"][0]
    assert two["half"] == [None] * 6 and len(two["seeds"]) == 2
    assert len(of[HOSTILE]["curves"][0]["lost"]) == 1
    assert len({tuple(line["together"]) for line in data["lines"]}) == len(ACCURACIES)


def test_it_says_what_it_leaves_out(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.figures.curves.MAX_LINES", 2)
    data = moving_curves(find(report.parent, STUDY))
    assert [line["variant"] for line in data["lines"]] == ["stn_affine", HOSTILE]
    assert data["note"] == "the 2 most accurate of 5 variants"


def point_at(browser: Browser, x_share: float, y_share: float, panel: int = 1) -> None:
    x, y = browser.run(
        f"(() => {{ const svg = document.querySelector('.panel:nth-child({panel}) svg');"
        " svg.scrollIntoView({ block: 'center' });"
        " const box = svg.getBoundingClientRect();"
        f" return [box.x + {x_share} * box.width, box.y + {y_share} * box.height]; }})()"
    )
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


def said(browser: Browser) -> str:
    shown = "[...document.querySelectorAll('.reading')].filter(each => each.checkVisibility())"
    return str(browser.run(f"{shown}.map(each => each.innerText).join('|')"))


def test_a_pointer_reads_a_value(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert said(browser) == ""
    point_at(browser, 0.99, 0.99)  # below the lowest line, at the last epoch
    value = mean_per_cent(report.parent, "cnn+affine", 6)
    name, text = said(browser).split("\n")
    assert name == "cnn+affine"
    assert text.startswith(f"epoch 6: {value:.1f} ± ") and text.endswith(" % (3 seeds)")
    point_at(browser, 0.99, 0.01, panel=2)
    # Few seeds have no interval, one has none to look for, and names are no code.
    assert said(browser).split("\n") == [HOSTILE, f"epoch 6: {71 * (1 - 0.7 * np.exp(-6)):.1f} % (1 seed)"]
    assert browser.run("window.hacked") is None
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert said(browser) == ""


def test_keys_read_values_too(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.run("[...document.querySelectorAll('.curves button')].pop().focus()")
    browser.press("Tab", 9)
    assert said(browser).startswith("cnn\nepoch 1: ")
    browser.press("ArrowRight", 39)
    assert said(browser).startswith(f"cnn\nepoch 2: {mean_per_cent(report.parent, 'cnn', 2):.1f} ± ")
    browser.press("ArrowDown", 40)
    assert said(browser).startswith("cnn+affine\nepoch 2: ")
    browser.press("ArrowDown", 40)  # nothing is below
    assert said(browser).startswith("cnn+affine\nepoch 2: ")
    browser.press("ArrowUp", 38)
    assert said(browser).startswith("cnn\nepoch 2: ")
    browser.press("Escape", 27)
    assert said(browser) == ""
    browser.press("Tab", 9)
    assert said(browser).startswith("stn_affine\nepoch 1: ") and "± — % (2 seeds)" in said(browser)


def test_variants_and_scores_are_chosen(browser: Browser, report: Path) -> None:
    browser.open(report)
    num, ticks = f"document.querySelectorAll('{LINES}').length", "document.querySelector('.panel text').textContent"
    # Five variants at a pose: a panel a model.
    assert browser.run("[...document.querySelectorAll('.panel .caption')].map(each => each.textContent)") == [
        "cnn", "stn_affine",
    ]  # fmt: skip
    assert browser.run(num) == 5
    browser.click(".choices input")
    assert browser.run(num) == 4
    browser.click(".choices button:last-child")
    assert browser.run(num) == 0
    assert browser.run("document.querySelector('.panel .nothing').checkVisibility()")
    browser.click(".choices button")
    browser.click(".curves .tools input")
    assert browser.run(num) == 5 and browser.run("document.querySelectorAll('.panel').length") == 1
    before = browser.run(ticks)
    browser.run(
        "(() => { const select = document.querySelector('.curves select');"
        " select.value = 1; select.dispatchEvent(new Event('change')); })()"
    )
    assert browser.run(ticks) != before
    point_at(browser, 0.01, 0.01)
    assert "epoch 1: 1.000" in said(browser)


@pytest.mark.parametrize("width_px", [1280, 390])
def test_they_fit_and_the_picture_is_for_paper(browser: Browser, report: Path, width_px: int) -> None:
    browser.open(report, width_px=width_px)
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    browser.run("new Promise(done => setTimeout(done, 300))")
    visible = "document.querySelector('{}').checkVisibility()"
    inside, shown = visible.format(".panel svg"), visible.format("#figure-curves img")
    assert browser.run(inside) and not browser.run(shown)
    outside = "e.getBoundingClientRect().right - e.closest('.panel').getBoundingClientRect().right"
    assert browser.run(f"[...document.querySelectorAll('.panel svg')].map(e => {outside})") == pytest.approx(
        [0, 0], abs=1
    )
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.run(shown) and not browser.run(inside)
    browser.ask("Emulation.setEmulatedMedia", media="")


def test_without_a_script_there_is_the_picture(browser: Browser, report: Path) -> None:
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        assert browser.run("document.querySelector('#figure-curves img').checkVisibility()")
        assert not browser.run("document.querySelectorAll('.curves').length")
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)
