"""The report in a real browser: it fits a phone, sorts, filters, prints, and asks for nothing else."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from analysis.figures.dark import PAPER
from analysis.findings import find
from analysis.report.page import Picture, picture, report_html, write_report
from tests.support.browser import PROGRAM, Browser
from tests.support.drawn_figures import study_of
from tests.support.synthetic_ledger import STUDY, TASK, write_arm, write_study

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed here")

ACCURACIES: dict[str, list[Any]] = {
    "cnn": [0.50, 0.52],
    "cnn+affine": [0.095, 0.097],
    "stn_affine": [0.60, 0.62],
    "stn_affine:padding=border:localisation=deep:start_sd=0.02:consistency=1@resnet18+rand_augment": [0.30, 0.32],
    "stn_affine+affine": ["failed", "failed"],
}
LABEL = "<img src=x onerror='window.hacked = 1'> & AVeryLongNameWithoutAnyPlaceToBreakItThatIsWiderThanAnyPhoneIs"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of five variants at two poses, with a wide picture."""
    folder = tmp_path_factory.mktemp("report")
    task = TASK | {"label": LABEL}
    arms = [
        write_arm(folder, name, "cnn", accuracies, pose=pose, task=task)
        for pose in ("upright", "R")
        for name, accuracies in ACCURACIES.items()
    ]
    write_study(folder, arms, task=task, source={"file": "sweep.yaml", "data": True})
    pixels = io.BytesIO()
    Image.new("RGB", (1800, 900), "white").save(pixels, "png")
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1800 900"><rect width="900" height="900"/></svg>'
    pictures = [picture(name, "What it shows", drawing, pixels.getvalue()) for name in ("forest", "curves")]
    tall = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 600"><rect width="300" height="60"/></svg>'
    narrow = "data:image/svg+xml;base64," + base64.b64encode(tall).decode()
    pictures.append(replace(picture("cost", "What it shows", drawing, pixels.getvalue()), narrow=narrow))
    file = folder / "report.html"
    file.write_text(report_html(find(folder, STUDY), pictures))
    return file


LEADERS = "#table-leaderboard .part[data-pose=upright]"


def column(browser: Browser, number: int = 0, table: str = LEADERS) -> list[str]:
    """The cells of a table's column that are seen, from the top."""
    rows = f"[...document.querySelectorAll({json.dumps(table + ' tbody tr')})].filter(row => row.offsetParent)"
    return list(browser.run(f"{rows}.map(row => row.cells[{number}].textContent)"))


def sorting(browser: Browser) -> list[str | None]:
    heads = f"[...document.querySelectorAll({json.dumps(LEADERS + ' th')})]"
    return list(browser.run(f"{heads}.map(head => head.getAttribute('aria-sort'))"))


@pytest.mark.parametrize("width_px", [1280, 768, 390, 360])
def test_it_fits(browser: Browser, report: Path, width_px: int) -> None:
    browser.open(report, width_px=width_px)
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    inner, page = browser.run("[innerWidth, document.documentElement.scrollWidth]")
    assert inner == width_px
    assert page <= inner
    # What is wider than the screen is in a container of its own that scrolls.
    outside = browser.run(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        " && !e.closest('.scroll') && e.checkVisibility()).map(e => e.outerHTML.slice(0, 100))"
    )
    assert outside == []
    wide = browser.run(
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 2).length"
    )
    assert (wide > 0) or width_px == 1280
    sizes = browser.run("[...document.images].map(image => [image.naturalWidth > 0, image.width / image.height])")
    shown = [ratio for loaded, ratio in sizes if loaded]
    assert sorted(shown) == pytest.approx([0.5 if width_px < 640 else 2, 2, 2], rel=0.01)


def test_a_phone_shows_the_answer_and_unfolds_the_rest(browser: Browser, report: Path) -> None:
    browser.open(report, width_px=390)
    height = "document.documentElement.scrollHeight"
    folded_px = browser.run(height)
    assert browser.run("document.querySelector('#answer .statements').checkVisibility()")
    assert not browser.run("document.querySelector('#table-leaderboard').checkVisibility()")
    browser.click(".contents a[href='#evidence']")
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("document.querySelector('#table-leaderboard').checkVisibility()")
    browser.click("#evidence summary")
    assert browser.run(height) == folded_px
    browser.click(".contents a[href='#evidence']")  # the same address as before
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("document.querySelector('#table-leaderboard').checkVisibility()")
    browser.open(report)
    assert browser.run("document.querySelectorAll('.fold').length") == 0


def corner(browser: Browser, figure: str) -> tuple[int, ...]:
    """The colour that is seen in a corner of a figure's picture, which may be below the screen."""
    box = browser.run(
        f"(() => {{ const box = document.querySelector('#figure-{figure} img').getBoundingClientRect();"
        " return [box.left + scrollX, box.top + scrollY]; })()"
    )
    clip = {"x": box[0] + 4, "y": box[1] + 4, "width": 4, "height": 4, "scale": 1}
    shot = browser.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    pixel = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB").getpixel((1, 1))
    assert isinstance(pixel, tuple)
    return tuple(map(int, pixel))


@pytest.mark.long
def test_figures_are_dark_in_the_dark_and_not_on_paper(browser: Browser, tmp_path: Path) -> None:
    """Drawings have a dark form; what is pixels only is dimmed."""
    findings = study_of(tmp_path / "runs", {"cnn": [0.50, 0.52, 0.54], "stn_affine": [0.60, 0.62, 0.63]})
    written = write_report(findings, tmp_path / "out")
    page, pixels = written.read_text(), io.BytesIO()
    assert 'data-curves="{' in page
    source = page.partition('id="figure-ablation"')[2].partition('src="')[2].partition('"')[0]
    Image.new("RGB", (1800, 900), "white").save(pixels, "png")
    large = b"<svg>" + b" " * 400_000
    pictures = [Picture("ablation", "Drawn", source, (900, 450)), picture("curves", "Pixels", large, pixels.getvalue())]
    written.write_text(report_html(findings, pictures))
    browser.open(written)
    browser.run("document.querySelectorAll('img').forEach(each => { each.loading = 'eager'; })")
    assert corner(browser, "ablation") == corner(browser, "curves") == (255, 255, 255)
    browser.open(written, prefers_color_scheme="dark")
    assert corner(browser, "ablation") == PAPER
    assert corner(browser, "curves") == pytest.approx((199, 199, 199), abs=2)
    browser.ask(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert corner(browser, "ablation") == corner(browser, "curves") == (255, 255, 255)
    browser.ask("Emulation.setEmulatedMedia", media="")


def test_a_row_s_name_and_its_line_stay_while_the_rest_is_pushed_aside(browser: Browser, report: Path) -> None:
    browser.open(report, width_px=390)
    browser.click("#evidence summary")
    table = json.dumps(LEADERS + " table")
    browser.run(f"document.querySelector({table}).parentElement.scrollLeft = 150")
    # Lines of collapsed borders belong to the table: they move away below cells that stay.
    assert browser.run(f"getComputedStyle(document.querySelector({table})).borderCollapse") == "separate"
    left_px = f"document.querySelector({table}).parentElement.getBoundingClientRect().left"
    cells = f'[...document.querySelectorAll({table[:-1]} tr > :first-child")]'
    moved_px = browser.run(f"{cells}.map(cell => cell.getBoundingClientRect().left - {left_px})")
    assert len(moved_px) > 2 and moved_px == pytest.approx([0] * len(moved_px), abs=1)


def test_text_is_no_code(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.run("window.hacked") is None
    assert browser.run("document.querySelector('h1').textContent") == f"Shown or learned? {LABEL}"
    assert browser.run("document.title") == f"Shown or learned? {LABEL}"


def test_a_press_on_a_heading_sorts(browser: Browser, report: Path) -> None:
    browser.open(report)
    names = column(browser)
    assert set(names) == set(ACCURACIES)
    head = f"{LEADERS} th:nth-child(2) button"
    assert browser.run(f"document.querySelector({json.dumps(head)}).textContent") == "Test %"
    browser.click(head)
    mean = {name: sum(found) / len(found) for name, found in ACCURACIES.items() if "failed" not in found}
    best_first = sorted(mean, key=lambda name: -mean[name])
    # 9.6 is less than 51, though not as text; what has no value comes last, whichever way.
    assert column(browser) == [*best_first, "stn_affine+affine"]
    assert sorting(browser)[:3] == [None, "descending", None]
    browser.click(head)
    assert column(browser) == [*reversed(best_first), "stn_affine+affine"]
    assert sorting(browser)[:3] == [None, "ascending", None]
    browser.click(head)
    assert column(browser) == names
    assert set(sorting(browser)) == {None}


def test_keys_sort_too(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.run(f"document.querySelector({json.dumps(LEADERS + ' th button')}).focus()")
    browser.press("Enter", 13, "\r")
    (long,) = (name for name in ACCURACIES if ":" in name)
    assert column(browser) == ["cnn", "cnn+affine", "stn_affine", long, "stn_affine+affine"]
    assert sorting(browser)[0] == "ascending"
    browser.press("Tab", 9)
    browser.press(" ", 32, " ")
    assert sorting(browser)[:2] == [None, "descending"]


def test_words_filter(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.click("#table-leaderboard input")
    browser.type("STN affine")
    assert set(column(browser)) == {name for name in ACCURACIES if "stn" in name}
    assert browser.run("document.querySelector('#table-leaderboard output').textContent") == "6 of 10 rows"
    browser.click("#table-leaderboard input")
    browser.type(" nothing has this")
    assert column(browser) == []
    assert not browser.run(f"document.querySelector('{LEADERS}').checkVisibility()")
    # Other tables stay as they are.
    assert len(column(browser, table="#table-costs")) == 10


def test_poses_filter(browser: Browser, report: Path) -> None:
    browser.open(report)
    choose = "const select = document.querySelector('#table-leaderboard select')"
    assert browser.run(f"{choose}; [...select.options].map(option => option.value)") == ["", "upright", "R"]
    browser.run(f"(() => {{ {choose}; select.value = 'R'; select.dispatchEvent(new Event('change')); }})()")
    assert column(browser) == []
    assert len(column(browser, table="#table-leaderboard .part[data-pose=R]")) == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(browser: Browser, report: Path, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3), in both schemes."""
    browser.open(report, prefers_color_scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    low = browser.run(
        """(() => {
          const channels = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = (rgb) => {
            const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            const [r, g, b] = rgb.map((c) => linear(c / 255));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const behind = (element) => {
            for (let each = element; each; each = each.parentElement) {
              const [r, g, b, a = 1] = channels(getComputedStyle(each).backgroundColor);
              if (a > 0.99) return [r, g, b];
            }
            return [255, 255, 255];
          };
          const found = new Set();
          for (const element of document.querySelectorAll("body *")) {
            const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
            if (!own || !element.checkVisibility() || element.tagName === "SCRIPT") continue;
            const [a, b] = [light(channels(getComputedStyle(element).color).slice(0, 3)), light(behind(element))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) found.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
          }
          return [...found];
        })()"""
    )
    assert low == []
    dark = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (int(dark.split("(")[1].split(",")[0]) < 60) is (scheme == "dark")


def test_paper_has_it_all(browser: Browser, report: Path) -> None:
    browser.open(report)
    pdf = base64.b64decode(browser.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.run("[...document.querySelectorAll('.contents, .tools')].every(e => !e.checkVisibility())")
    assert browser.run("document.querySelectorAll('details:not(.keys):not([open])').length") == 0
    browser.ask("Emulation.setEmulatedMedia", media="")


def test_it_reads_without_a_script(browser: Browser, report: Path) -> None:
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report, width_px=390)
        assert not browser.run("document.querySelectorAll('th button, .tools').length")
        assert set(column(browser)) == set(ACCURACIES)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)


def test_commands_can_be_copied(browser: Browser, report: Path) -> None:
    """Into the clipboard where a page may; else they are selected."""
    browser.open(report)
    browser.click(".command button")
    browser.run("new Promise(done => setTimeout(done, 200))")
    copied, selected, command = browser.run(
        "[document.querySelector('.command button').textContent, String(getSelection()),"
        " document.querySelector('.command code').textContent]"
    )
    assert command.startswith("make sweep SWEEP=sweep.yaml")
    assert copied == "Copied" or selected.strip() == command


def test_the_way_in_for_keyboards(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.textContent") == "Skip to the answer"
    assert browser.run("document.activeElement.getBoundingClientRect().left") == 0
    unnamed = "document.querySelectorAll('input:not(label input), select:not(label select), img:not([alt])').length"
    assert browser.run(unnamed) == 0
