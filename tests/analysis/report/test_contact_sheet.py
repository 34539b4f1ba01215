"""The contact sheet in the report: the very picture that lies beside it, or a smaller one where that is large."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.findings import find
from analysis.report.page import is_made_from, report_html
from analysis.tables import build_tables
from tests.support.synthetic_ledger import STUDY, write_tiny_study


def write_sheet(folder: Path, width: int, height: int) -> bytes:
    """Noise, which cannot be packed; the file's bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels_HWC).save(folder / "contact-sheet.png")
    return (folder / "contact-sheet.png").read_bytes()


def shown(page: str) -> tuple[str, bytes, str]:
    """The picture's kind, its bytes, and the tag that shows it."""
    ((tag, kind, data),) = re.findall(r'(<img src="data:image/(\w+);base64,([^"]+)"[^>]*each class[^>]*>)', page)
    return kind, base64.b64decode(data), tag


@pytest.mark.parametrize("fault", ["cut off", "damaged"])
def test_a_picture_that_is_not_whole_is_left_out(fault: str, tmp_path: Path) -> None:
    write_tiny_study(tmp_path / "runs")
    written = write_sheet(tmp_path / "out", 120, 80)
    broken = written[:50] if fault == "cut off" else written.replace(b"IDAT", b"I?AT")
    (tmp_path / "out/contact-sheet.png").write_bytes(broken)
    assert "contact-sheet" not in report_html(find(tmp_path / "runs", STUDY), [], tmp_path / "out")


def test_the_page_has_the_sheet_that_lies_beside_it(tmp_path: Path) -> None:
    write_tiny_study(tmp_path / "runs")
    findings, out = find(tmp_path / "runs", STUDY), tmp_path / "out"
    written = write_sheet(out, 120, 80)
    page = report_html(findings, [], out)
    kind, data, tag = shown(page)
    assert (kind, data) == ("png", written) and 'width="120" height="80"' in tag
    assert page.index("What is compared") < page.index(tag) < page.index('<section id="evidence">')


def test_a_large_sheet_is_made_small_enough_to_be_sent(tmp_path: Path) -> None:
    write_tiny_study(tmp_path / "runs")
    written = write_sheet(tmp_path / "out", 1200, 3000)
    assert len(written) > 10_000_000
    page = report_html(find(tmp_path / "runs", STUDY), [], tmp_path / "out")
    kind, data, tag = shown(page)
    assert kind == "jpeg" and len(page) < 2_000_000 and 'width="1200" height="3000"' in tag
    width, height = Image.open(io.BytesIO(data)).size
    assert width >= 300 and height / width == pytest.approx(2.5, rel=0.01)


def test_a_report_is_made_again_for_another_sheet(tmp_path: Path) -> None:
    write_tiny_study(tmp_path / "runs")
    findings, page = find(tmp_path / "runs", STUDY), tmp_path / "out/report.html"
    tables = build_tables(findings)
    page.parent.mkdir()
    page.write_text(report_html(findings, [], page.parent))
    assert is_made_from(page, findings, tables)
    write_sheet(page.parent, 20, 20)
    assert not is_made_from(page, findings, tables)
    page.write_text(report_html(findings, [], page.parent))
    assert is_made_from(page, findings, tables)
