"""The share of the gap between the plain network and unwarped images, in every format."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from analysis.findings import find
from analysis.formats import csv_document, latex_document, markdown_document
from analysis.gap import GAP_COLUMN, Share, share_text
from analysis.statistics.ratio import paired_ratio
from analysis.tables import write_tables
from tests.support.built_tables import built
from tests.support.shown_markdown import shown
from tests.support.synthetic_ledger import STUDY, write_arm, write_study

NAN = float("nan")
CNN, ORACLE = [0.50, 0.52, 0.54, 0.53, 0.51], [0.62, 0.63, 0.67, 0.65, 0.62]
STN = [0.55, 0.56, 0.61, 0.575, 0.56]
LONG = "stn_rotation:start_sd=0.02:loc=deep@lenet:width=2+rotate:max_deg=90"


def gap_cells(ledger: Path, pose: str) -> dict[str, str] | None:
    """The column's cells by variant; None for a section without it."""
    sections = built("ablation", find(ledger, STUDY)).sections
    table = next(section.table for section in sections if section.heading in ("", f"Pose {pose}"))
    if GAP_COLUMN not in table.columns:
        return None
    assert len(table.align) == len(table.columns)
    place = table.columns.index(GAP_COLUMN)
    return {row[0]: row[place] for row in table.rows}


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A pose with a gap, one without an oracle, one whose gap is closed."""
    ledger = tmp_path / "runs"
    arms = [
        write_arm(ledger, "cnn", "cnn", CNN, pose="R:max_deg=30"),
        write_arm(ledger, "oracle_unwarp", "cnn", ORACLE, pose="R:max_deg=30"),
        write_arm(ledger, "stn", "cnn", STN, pose="R:max_deg=30"),
        write_arm(ledger, "stn:loc=deep+affine", "cnn", [0.49, "diverged", 0.53, None, 0.50], pose="R:max_deg=30"),
        write_arm(ledger, "cnn@lenet:width=2", "cnn@lenet:width=2", [0.40, 0.42, 0.41], pose="R:max_deg=30"),
        write_arm(ledger, "oracle_unwarp@lenet:width=2", "cnn@lenet:width=2", [0.50, 0.53, 0.515], pose="R:max_deg=30"),
        write_arm(ledger, LONG, "cnn@lenet:width=2", [0.45, 0.47, 0.46], pose="R:max_deg=30"),
        write_arm(ledger, "stn@lenet", "cnn", STN, pose="R:max_deg=30"),
        write_arm(ledger, "cnn", "cnn", CNN, pose="R"),
        write_arm(ledger, "oracle_unwarp+affine", "cnn", ORACLE, pose="R"),
        write_arm(ledger, "cnn", "cnn", CNN, pose="upright"),
        write_arm(ledger, "oracle_unwarp", "cnn", list(reversed(CNN)), pose="upright"),
        write_arm(ledger, "stn", "cnn", STN, pose="upright"),
    ]
    write_study(ledger, arms)
    return ledger


def test_share_of_the_gap(ledger: Path) -> None:
    ratio, low, high, num = map(float, paired_ratio(np.subtract(STN, CNN), np.subtract(ORACLE, CNN)))
    row = next(row for row in find(ledger, STUDY).rows if row.variant == "stn")
    assert row.gap_closed == pytest.approx((ratio, low, high, num))
    cells = gap_cells(ledger, "R:max_deg=30")
    assert cells is not None
    assert cells["stn"] == f"{100 * ratio:.0f} [{100 * low:.0f}, {100 * high:.0f}]" == "43 [33, 52]"
    assert (cells["cnn"], cells["oracle_unwarp"]) == ("0", "100")
    assert cells["stn:loc=deep+affine"].startswith("−8 [−")
    assert "pairs" not in cells["stn:loc=deep+affine"]


def test_a_backbone_has_a_gap_of_its_own(ledger: Path) -> None:
    cells = gap_cells(ledger, "R:max_deg=30")
    assert cells is not None
    assert cells["cnn@lenet:width=2"] == "0"
    row = next(row for row in find(ledger, STUDY).rows if row.variant == LONG)
    assert row.gap_closed is not None
    assert row.gap_closed.value == pytest.approx(0.05 / 0.105)
    assert cells["stn@lenet"] == "—"  # neither cnn@lenet nor oracle_unwarp@lenet is in the study


def test_an_end_with_a_policy_is_no_end(ledger: Path) -> None:
    assert gap_cells(ledger, "R") is None


def test_a_closed_gap_has_no_shares(ledger: Path) -> None:
    assert gap_cells(ledger, "upright") == {"cnn": "—", "oracle_unwarp": "—", "stn": "—"}
    caption = " ".join(built("ablation", find(ledger, STUDY)).notes)
    assert "at pose upright: oracle_unwarp is not significantly above cnn (0.0 ± " in caption
    assert "at pose R:max_deg=30" not in caption
    assert "Fieller's 95 % interval" in caption


def test_too_few_seeds(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, "cnn", "cnn", [0.50, 0.51, None]),
        write_arm(tmp_path, "oracle_unwarp", "cnn", [0.60, None, 0.62]),
        write_arm(tmp_path, "stn", "cnn", [0.55, 0.55, 0.55]),
    ]
    write_study(tmp_path, arms)
    assert gap_cells(tmp_path, "upright") == {"cnn": "—", "oracle_unwarp": "—", "stn": "—"}
    caption = " ".join(built("ablation", find(tmp_path, STUDY)).notes)
    assert "No share of the gap is given: fewer than three seeds completed both cnn and oracle_unwarp." in caption


def test_a_study_without_an_oracle_says_nothing(tmp_path: Path) -> None:
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", CNN), write_arm(tmp_path, "stn", "cnn", STN)])
    table = built("ablation", find(tmp_path, STUDY))
    assert gap_cells(tmp_path, "upright") is None
    assert "gap" not in markdown_document(table).lower() + latex_document(table).lower()
    lines = list(csv.DictReader(io.StringIO(csv_document(table))))
    assert [line[name] for line in lines for name in ("gap_closed", "gap_closed_low", "gap_closed_high")] == [""] * 6


def test_every_format_has_it(ledger: Path, tmp_path: Path) -> None:
    write_tables(find(ledger, STUDY), tmp_path / "out")
    findings = find(ledger, STUDY)
    cells = [cell for section in built("ablation", findings).sections for row in section.table.rows for cell in row]
    markdown, latex = ((tmp_path / "out" / f"ablation.{end}").read_text() for end in ("md", "tex"))
    assert shown(markdown)[: len(cells)] == cells
    assert r"& 43 {[}33, 52{]} &" in latex
    assert latex.count(r"\begin{tabular}") == 3  # the middle pose has a column less
    assert r"stn\_rotation:start\_sd=0.02:loc=deep@lenet:width=2+rotate:max\_deg=90 &" in latex
    with (tmp_path / "out" / "ablation.csv").open(newline="") as file:
        lines = {(line["pose"], line["variant"]): line for line in csv.DictReader(file)}
    stn = lines["R:max_deg=30", "stn"]
    row = next(row for row in findings.rows if row.variant == "stn")
    assert row.gap_closed is not None
    assert tuple(float(stn[f"gap_closed{end}"]) for end in ("", "_low", "_high")) == row.gap_closed[:3]
    assert [lines["R:max_deg=30", "cnn"][f"gap_closed{end}"] for end in ("", "_low", "_high")] == ["0.0", "", ""]
    assert lines["upright", "stn"]["gap_closed"] == lines["R", "cnn"]["gap_closed"] == ""
    assert ("R:max_deg=30", LONG) in lines


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (Share(0.43, 0.31, 0.58, 5), "43 [31, 58]"),
        (Share(-0.001, -0.2, 1.3, 4), "0 [−20, 130] (4 pairs)"),
        (Share(1.0, NAN, NAN, 5), "100"),
        (Share(NAN, NAN, NAN, 5), "—"),
        (None, "—"),
    ],
)
def test_share_text(share: Share | None, text: str) -> None:
    assert share_text(share, 5) == text
