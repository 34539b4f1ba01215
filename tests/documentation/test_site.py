"""The site: built without a warning, whole without a network, legible on a phone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.site_pages import SitePage, is_elsewhere, reachable, target
from tests.support.browser import PROGRAM, Browser
from tests.support.project import ROOT

pytestmark = pytest.mark.documentation

in_a_browser = pytest.mark.skipif(PROGRAM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def own_pages(site: Path) -> list[SitePage]:
    """Pages that the builder of the site made; the program's reports have their own tests."""
    return [SitePage(path) for path in sorted(site.rglob("*.html")) if path.name != "report.html"]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = own_pages(site)
    assert len(pages) > 10
    assert not [(page.path, address) for page in pages for address in page.loaded if is_elsewhere(address)]
    assert all(target(page.path, address)[0].is_file() for page in pages if page.path.name != "404.html"
               for address in page.loaded)  # fmt: skip
    for sheet in site.rglob("*.css"):
        fetched = re.findall(r"@import[^;]*|url\(\s*['\"]?([^)'\"]*)", sheet.read_text())
        assert not [address for address in fetched if not address.startswith(("data:", "#"))], sheet


def test_links_lead_somewhere(site: Path) -> None:
    pages = {page.path.resolve(): page for page in own_pages(site) if page.path.name != "404.html"}
    for path, page in pages.items():
        for address in page.links:
            if is_elsewhere(address):
                continue
            file, place = target(path, address)
            assert file.exists(), f"{path.name}: {address}"
            assert not place or file not in pages or place in pages[file].anchors, f"{path.name}: {address}"


def test_all_that_was_written_can_be_reached(site: Path) -> None:
    found = {item.path.resolve() if isinstance(item, SitePage) else item for item in reachable(site / "index.html")}
    results = ROOT / "docs/results"
    for kind in ("*.md", "*.html", "*.json"):
        for path in results.rglob(kind):
            there = (site / "results" / path.relative_to(results)).resolve()
            assert (there.with_suffix(".html") if path.suffix == ".md" else there) in found, path
    for path in (*(ROOT / "docs").glob("*.md"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"):
        assert (site / path.name).with_suffix(".html").resolve() in found, path


def test_what_is_not_for_readers_stays_out(site: Path) -> None:
    assert not [path for path in site.rglob("*") if path.name == "claims.yaml" or path.suffix in (".py", ".pyc")]


def named_pages(site: Path) -> list[Path]:
    return sorted(path for path in site.glob("*.html") if path.name != "404.html")


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_load_without_a_fault(site: Path, scheme: str) -> None:
    with Browser() as browser:
        for path in (*named_pages(site), site / "results/cifar10-jpeg-cpu/claims.html"):
            browser.open(path, width_px=390, height_px=844, prefers_color_scheme=scheme)
            assert browser.run("document.documentElement.scrollWidth") == 390, path.name
            broken = browser.run("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
            assert broken == [], path.name
            shown = browser.run("document.body.dataset.mdColorScheme")
            assert shown == {"light": "default", "dark": "slate"}[scheme]
        assert browser.problems == []
        assert not [address for address in browser.requests if not address.startswith(("file:", "data:", "blob:"))]


@in_a_browser
def test_a_search_from_the_disk_finds_pages(site: Path) -> None:
    with Browser() as browser:
        browser.open(site / "index.html")
        browser.click("input.md-search__input")
        browser.type("undecided")
        found = browser.run(
            """new Promise((done, failed) => {
              const started = Date.now();
              const look = () => {
                const titles = [...document.querySelectorAll(".md-search-result__link")].map(link => link.href);
                if (titles.length) done(titles);
                else if (Date.now() - started > 30000) failed(new Error("nothing is found"));
                else {
                  // What was typed before the page's script listened has not been heard.
                  document.querySelector("input.md-search__input").dispatchEvent(new Event("keyup"));
                  setTimeout(look, 100);
                }
              };
              look();
            })"""
        )
        assert any("reading-the-report.html" in address for address in found), found
        assert not any("/results/" in address for address in found), found
        assert browser.problems == []
