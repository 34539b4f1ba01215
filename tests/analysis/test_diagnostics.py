"""The transformer table: which runs it is over, what it says, and when there is none."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from analysis.findings import find
from analysis.formats import Table
from analysis.tables import write_tables
from analysis.tables.transformer import IMPORTANCE
from tests.support.built_tables import built, cells
from tests.support.shown_markdown import shown
from tests.support.synthetic_ledger import (
    STUDY,
    edit_json,
    key_of,
    transformer_record,
    write_arm,
    write_study,
    write_tiny_study,
)


def record(spread_px: float, **changes: Any) -> dict[str, Any]:
    return transformer_record(spread_px=spread_px, **changes)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    ledger = tmp_path / "runs"
    idle = record(0.0, verdict="idle", identity_fraction=1.0, pose={"angle_error_deg": 45.0, "angle_r2": -0.01})
    blind = record(0.1, verdict="collapsed", condition=3e7) | {"pose": None}
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.5, 0.5, 0.5], pose="R"),
        write_arm(
            ledger, "stn:loc=deep+affine", "cnn", [0.6, 0.6, 0.6, "diverged", None], pose="R",
            transformers=[record(4.0), record(5.0), idle, None],
        ),
        write_arm(ledger, "stn_frozen", "cnn", [0.5, 0.5], pose="R", transformers=[blind, None]),
    ]  # fmt: skip
    write_study(ledger, arms)
    return ledger


def table_of(ledger: Path) -> Table:
    return built("transformer", find(ledger, STUDY))


def cells_of(ledger: Path, variant: str) -> dict[str, str]:
    return cells(table_of(ledger))[variant]


def test_only_arms_with_a_transformer_have_a_row(ledger: Path) -> None:
    (section,) = table_of(ledger).sections
    assert [row[0] for row in section.table.rows] == ["stn:loc=deep+affine", "stn_frozen"]
    assert sorted(IMPORTANCE) == sorted(section.table.columns)


def test_means_over_completed_runs(ledger: Path) -> None:
    look = find(ledger, STUDY).looks[0]
    half = stats.t.ppf(0.975, 2) * stats.sem([4.0, 5.0, 0.0])
    assert look.means["spread_px"] == pytest.approx((3.0, half, 3))
    assert look.means["angle_r2"].value == pytest.approx((0.8 + 0.8 - 0.01) / 3)
    assert look.keys == tuple(key_of("R", "stn:loc=deep+affine", seed) for seed in (11, 12, 13))
    cells = cells_of(ledger, "stn:loc=deep+affine")
    assert cells["Spread px"] == f"3.00 ± {half:.2f}"
    assert cells["Identity %"] == "35 ± 141"
    assert cells["Angle error °"] == "23.0 ± 47.3"
    assert (cells["Out of frame %"], cells["Zoom"]) == ("5.0 ± 0.0", "0.90 ± 0.00")
    assert (cells["Scale R²"], cells["n"]) == ("—", "3")


def test_verdicts_are_counted_with_the_runs_that_have_none(ledger: Path) -> None:
    assert cells_of(ledger, "stn:loc=deep+affine")["Verdict"] == "2 working, 1 idle, 1 diverged, 1 missing"
    assert cells_of(ledger, "stn_frozen")["Verdict"] == "1 collapsed, 1 unmeasured"


def test_one_run_without_a_pose(ledger: Path) -> None:
    cells = cells_of(ledger, "stn_frozen")
    assert [cells[name] for name in ("Angle R²", "Angle error °", "Shift R²")] == ["—"] * 3
    assert (cells["Spread px"], cells["Condition"], cells["n"]) == ("0.10", "3e+07", "1")


def test_trials_stand_in_for_final_runs_that_are_not_there_yet(ledger: Path) -> None:
    for file in ledger.glob("runs/*/run.json"):
        run = json.loads(file.read_text())
        is_trial = run["config"]["stage"] == "trial" and run["config"]["variant"] == "stn_frozen"
        edit_json(file, result=run["result"] | {"transformer": record(2.0) if is_trial else None})
    assert {look.stage for look in find(ledger, STUDY).looks} == {"trial"}
    assert cells_of(ledger, "stn_frozen")["Verdict"] == "3 working"
    assert (cells_of(ledger, "stn_frozen")["Spread px"], cells_of(ledger, "stn_frozen")["n"]) == ("2.00", "2")
    assert "No final run has been measured yet" in table_of(ledger).notes[0]


def test_files(ledger: Path, tmp_path: Path) -> None:
    paths = {path.name: path for path in write_tables(find(ledger, STUDY), tmp_path)}
    table = table_of(ledger)
    markdown = paths["transformer.md"].read_text()
    assert shown(markdown) == [cell for section in table.sections for row in section.table.rows for cell in row]
    assert "## Pose R" in markdown
    for heading in table.sections[0].table.columns[3:]:
        assert f"- {heading}: " in markdown
    with paths["transformer.csv"].open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["pose"], first["variant"], first["stage"]) == ("R", "stn:loc=deep+affine", "final")
    assert float(first["identity_fraction"]) == pytest.approx(1.04 / 3)
    assert (first["spread_px_num_runs"], second["angle_r2"], second["angle_r2_num_runs"]) == ("3", "", "0")
    assert (second["condition"], second["condition_half_width"]) == ("30000000.0", "")
    assert second["run_keys"] == key_of("R", "stn_frozen", 11)


def test_a_study_without_transformers_has_no_such_table(ledger: Path, tmp_path: Path) -> None:
    write_tables(find(ledger, STUDY), tmp_path)
    assert (tmp_path / "transformer.md").exists()
    write_tiny_study(ledger)  # the same study, begun anew without one
    assert not find(ledger, STUDY).looks
    write_tables(find(ledger, STUDY), tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("transformer")]
