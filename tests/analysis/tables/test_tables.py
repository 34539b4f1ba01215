"""The ablation and the times: what they say for every kind of loss; and the files of all tables."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis.ablation import Row
from analysis.findings import find
from analysis.formats import DOCUMENTS, Table, csv_document, latex_document, latex_text, markdown_document
from analysis.means import Mean, percent_text
from analysis.report.method import method
from analysis.row_files import NAMES
from analysis.tables import builders, write_tables
from ledger.errors import UserError
from tests.support.built_tables import built, cells
from tests.support.project import ROOT
from tests.support.shown_markdown import shown
from tests.support.synthetic_ledger import SEEDS, STUDY, edit_json, key_of, write_arm, write_study


def row_of(ledger: Path, variant: str, pose: str = "upright") -> Row:
    return next(row for row in find(ledger, STUDY).rows if (row.variant, row.pose) == (variant, pose))


def cells_of(ledger: Path, variant: str) -> dict[str, str]:
    return cells(ablation_table(ledger))[variant]


def ablation_table(ledger: Path) -> Table:
    return built("ablation", find(ledger, STUDY))


def caption_of(ledger: Path) -> str:
    return " ".join(ablation_table(ledger).notes)


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_rows_keep_the_order_of_the_study(ledger: Path) -> None:
    variants = [row.variant for row in find(ledger, STUDY).rows]
    assert variants == ["cnn", "cnn+affine", "stn_affine", "stn_affine+affine", "late"]


def test_accuracy_and_paired_difference(ledger: Path) -> None:
    cnn, affine = [0.50, 0.52, 0.54, 0.53, 0.51], [0.55, 0.57, 0.585, 0.58, 0.56]
    row = row_of(ledger, "cnn+affine")
    low, high = stats.t.interval(0.95, 4, loc=0.569, scale=stats.sem(affine))
    assert row.test_accuracy == pytest.approx((0.569, (high - low) / 2, 5))
    assert row.val_accuracy.value == pytest.approx(0.579)
    interval = stats.ttest_rel(affine, cnn).confidence_interval(0.95)
    assert row.difference is not None
    assert row.difference == pytest.approx((0.049, (interval.high - interval.low) / 2, 5))
    assert cells_of(ledger, "cnn+affine")["Test %"] == "56.9 ± 1.8"
    assert cells_of(ledger, "cnn+affine")["Difference"] == "+4.9 ± 0.3 *"


def test_lost_runs_are_counted_and_never_averaged(ledger: Path) -> None:
    row = row_of(ledger, "stn_affine")
    assert row.test_by_seed == {11: 0.50, 13: 0.55, 15: 0.50}
    assert row.difference_by_seed == pytest.approx({11: 0.0, 13: 0.01, 15: -0.01})
    cells = cells_of(ledger, "stn_affine")
    assert cells["n"] == "3"
    assert cells["Test %"] == "51.7 ± 7.2"
    assert cells["Difference"] == "0.0 ± 2.5"
    assert cells["Final runs"] == "3 completed, 1 diverged, 1 missing"
    assert cells["Trials"] == "2 completed, 1 pruned, 1 failed"


def test_a_pair_needs_both(ledger: Path) -> None:
    edit_json(ledger / "runs" / key_of("upright", "cnn", 13) / "run.json", status="diverged")
    assert row_of(ledger, "stn_affine").difference_by_seed == pytest.approx({11: 0.0, 15: -0.01})
    assert cells_of(ledger, "stn_affine")["Difference"].endswith("(2 pairs)")
    shutil.rmtree(ledger / "runs" / key_of("upright", "cnn", 15))
    assert cells_of(ledger, "stn_affine")["Difference"] == "0.0 (1 pair)"


def test_nothing_completed(ledger: Path) -> None:
    cells = cells_of(ledger, "stn_affine+affine")
    absent = ("Validation %", "Test %", "Difference", "Training FLOPs")
    assert [cells[name] for name in absent] == ["—"] * 4
    assert (cells["n"], cells["Final runs"]) == ("0", "2 failed, 3 missing")


def test_nothing_begun(ledger: Path) -> None:
    cells = cells_of(ledger, "late")
    assert (cells["Parameters"], cells["Final runs"], cells["Trials"]) == ("—", "—", "—")


def test_a_baseline_has_no_difference(ledger: Path) -> None:
    assert row_of(ledger, "cnn").difference is None
    assert (cells_of(ledger, "cnn")["Baseline"], cells_of(ledger, "cnn")["Difference"]) == ("—", "—")


def test_flops_share_one_unit(ledger: Path) -> None:
    assert cells_of(ledger, "stn_affine")["Training FLOPs"] == "3.20 TFLOP"
    assert cells_of(ledger, "cnn")["Training FLOPs"] == "0.310 TFLOP"
    assert cells_of(ledger, "stn_affine")["Parameters"] == "243,146"


def test_seeds_are_paired_by_seed_not_by_place(ledger: Path) -> None:
    file = ledger / "studies" / STUDY / "study.json"
    arms = json.loads(file.read_text())["arms"]
    expected = row_of(ledger, "cnn+affine").difference
    arms[0]["finals"].reverse()
    edit_json(file, arms=arms)
    assert row_of(ledger, "cnn+affine").difference == expected


def test_poses_are_compared_apart(tmp_path: Path) -> None:
    arms = []
    for pose, shift in (("upright", 0.0), ("R", 0.2)):
        arms.append(write_arm(tmp_path, "cnn", "cnn", [0.6 - shift, 0.61 - shift], pose=pose))
        arms.append(write_arm(tmp_path, "stn", "cnn", [0.6 + shift, 0.61 + shift], pose=pose))
    write_study(tmp_path, arms)
    findings = find(tmp_path, STUDY)
    differences = [row.difference.value for row in findings.rows if row.difference]
    assert differences == pytest.approx([0.0, 0.4])
    assert "poses upright, R" in caption_of(tmp_path)
    written = ablation_table(tmp_path)
    markdown = markdown_document(written)
    assert markdown.index("## Pose upright") < markdown.index("## Pose R")
    assert built("hyper_parameters", findings).sections[0].table.columns[:2] == ("Variant", "Pose")
    assert [row["pose"] for row in csv_rows(csv_document(written))] == ["upright"] * 2 + ["R"] * 2
    assert r"\multicolumn{10}{l}{\textit{Pose R}}" in latex_document(written)


def test_caption_says_what_was_done(ledger: Path) -> None:
    caption = caption_of(ledger)
    for fact in (
        "Task: Tiny (JPEG); 2 classes; pose upright; 6,000 training, 2,000 validation and 10,000 test images",
        "6 epochs; budget cpu; protocol 1234abcd.",
        "95 % Student-t interval",
        "of 0 to 5 a variant",
        "tuned on validation images only, with 0 to 4 trials",
        "read once in each final run",
        "* marks an interval that excludes 0",
    ):
        assert fact in caption


def test_hyper_parameters_are_the_winners(ledger: Path) -> None:
    table = built("hyper_parameters", find(ledger, STUDY)).sections[0].table
    assert table.columns == ("Variant", "optim.lr", "optim.weight_decay", "model.loc_lr_factor", "Winning trial")
    assert table.rows[0] == ("cnn", "0.1", "0.0005", "—", key_of("upright", "cnn", "trial", 1))
    assert table.rows[2][3] == "0.25"
    assert table.rows[4] == ("late", "—", "—", "—", "—")


def test_untuned_study_says_so(tmp_path: Path) -> None:
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [0.5], trial_statuses=(), lr=0.3)])
    assert "Hyper-parameters were not tuned." in caption_of(tmp_path)
    (tuned,) = built("hyper_parameters", find(tmp_path, STUDY)).sections
    assert tuned.table.rows == (("cnn", "0.3", "0.0005", "—"),)
    assert ablation_table(tmp_path).sections[0].table.rows[0][2:5] == ("51.0", "50.0", "1")


def test_a_setting_that_was_tried_twice_is_one_trial(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "cnn", "cnn", [0.5], trial_statuses=("completed", "completed"))
    write_study(tmp_path, [arm | {"trials": [*arm["trials"], *arm["trials"], arm["trials"][0]]}])
    assert "with 2 trials for each variant" in caption_of(tmp_path)
    assert "tuned with 2 trials" in " ".join(method(find(tmp_path, STUDY)))


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (Mean(0.543, 0.006, 5), "+54.3 ± 0.6"),
        (Mean(-0.0125, 0.01, 5), "−1.2 ± 1.0"),
        (Mean(-0.0002, 0.01, 5), "0.0 ± 1.0"),
        (Mean(0.01, float("nan"), 1), "+1.0"),
        (Mean(float("nan"), float("nan"), 0), "—"),
    ],
)
def test_percent_text(mean: Mean, text: str) -> None:
    assert percent_text(mean, signed=True) == text
    assert percent_text(mean) == text.removeprefix("+")


def test_write_tables(ledger: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports" / STUDY
    paths = write_tables(find(ledger, STUDY), out)
    tables = {path.stem for path in paths if path.name not in NAMES}
    assert tables >= {"ablation", "claims", "costs", "factors", "failures", "leaderboard", "runs", "times"}
    assert "transformer" not in tables  # no run has a record of one
    names = [f"{name}.{ending}" for name in sorted(tables) for ending in DOCUMENTS] + ["history.csv"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in out.iterdir()) == sorted(names)


def test_tables_that_no_longer_apply_are_deleted(ledger: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_tables(find(ledger, STUDY), out)
    (out / "notes.txt").write_text("mine")
    write_study(ledger, [write_arm(ledger, "cnn", "cnn", [0.5, 0.6], trial_statuses=())])
    paths = write_tables(find(ledger, STUDY), out)
    assert not {path.stem for path in paths} & {"claims", "factorial", "factors", "failures", "leaderboard"}
    assert sorted(out.iterdir()) == sorted([*paths, out / "notes.txt"])


def test_every_row_names_its_runs(ledger: Path) -> None:
    """Each line of each CSV file ends with keys that the ledger's study lists."""
    findings = find(ledger, STUDY)
    listed = set(findings.study.runs["key"])
    for name, build in builders().items():
        table = build(findings)
        if table is None:
            continue
        assert len(set(table.columns)) == len(table.columns), name
        assert {len(row) for row in table.rows} == {len(table.columns)}, name
        place = table.columns.index("run_keys")
        assert {key for row in table.rows for key in str(row[place] or "").split()} <= listed
        assert any(row[place] for row in table.rows), name
        for section in table.sections:
            assert len(section.keys) in (0, len(section.table.rows)), name
            assert {len(row) for row in section.table.rows} <= {len(section.table.columns)}, name
            assert len(section.table.align) == len(section.table.columns), name


def test_costs_change_times_and_nothing_else(ledger: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in write_tables(find(ledger, STUDY), tmp_path / "before")}
    for file in ledger.glob("runs/*/cost.json"):
        edit_json(file, train_seconds=99.5, seconds=120.0, images_per_s=7.0, device_name="another")
    (ledger / "runs" / key_of("upright", "cnn", 11) / "cost.json").unlink()
    after = {path.name: path.read_bytes() for path in write_tables(find(ledger, STUDY), tmp_path / "after")}
    same = {name for name in before if before[name] == after[name]}
    assert {name.partition(".")[0] for name in set(before) - same} == {"times"}
    assert b"99.5" in after["times.csv"]
    assert b"another" in after["times.md"]


def test_times(ledger: Path, tmp_path: Path) -> None:
    for seed, seconds in zip(SEEDS, (10.0, 20.0, 30.0, 40.0, 50.0), strict=True):
        edit_json(ledger / "runs" / key_of("upright", "cnn", seed) / "cost.json", train_seconds=seconds)
    write_tables(find(ledger, STUDY), tmp_path)
    rows = csv_rows((tmp_path / "times.csv").read_text())
    cnn = rows[0]
    assert [cnn[f"train_seconds{part}"] for part in ("", "_min", "_max")] == ["30.0", "10.0", "50.0"]
    assert float(cnn["all_runs_seconds"]) == pytest.approx(8 * 24.3)
    assert (rows[2]["num_runs"], rows[3]["num_runs"], rows[3]["train_seconds"]) == ("3", "0", "")
    assert (rows[4]["variant"], rows[4]["all_runs_seconds"]) == ("late", "")
    markdown = (tmp_path / "times.md").read_text()
    assert "| cnn | 5 | 30.0 | 10.0 | 50.0 | 1,410 | 512 | 194 |" in markdown
    assert "Measured on cpu A CPU, threads a run: 1." in markdown


def test_times_of_nothing(tmp_path: Path) -> None:
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [None], trial_statuses=())])
    write_tables(find(tmp_path, STUDY), tmp_path / "out")
    assert "no machine yet" in (tmp_path / "out" / "times.md").read_text()


def test_a_failed_write_leaves_the_old_file(ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ablation.md").write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="cannot be written: No space left on device; make room there and give"):
        write_tables(find(ledger, STUDY), tmp_path)
    assert (tmp_path / "ablation.md").read_text() == "old"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_unwritable_folder(ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*: cannot be written"):
        write_tables(find(ledger, STUDY), tmp_path / "file" / "out")


def test_formats_say_the_same(ledger: Path) -> None:
    written, rows = ablation_table(ledger), find(ledger, STUDY).rows
    shown_cells = [cell for section in written.sections for row in section.table.rows for cell in row]
    markdown, latex = markdown_document(written), latex_document(written)
    assert shown(markdown)[: len(shown_cells)] == shown_cells
    for cell in shown_cells:
        assert latex_text(cell) in latex
    for row, line in zip(rows, csv_rows(csv_document(written)), strict=True):
        assert line["variant"] == row.variant
        assert line["test_accuracy"] == (repr(row.test_accuracy.value) if row.test_accuracy.num else "")
        assert line["run_keys"].split() == [run.key for run in row.finals if run.averaged]
        for run in row.finals:
            assert (run.key in markdown) == (run.key in latex) == run.averaged
            assert run.key in line["run_keys"] + line["other_run_keys"]


def test_csv_reads_as_numbers(ledger: Path, tmp_path: Path) -> None:
    write_tables(find(ledger, STUDY), tmp_path)
    frame = pd.read_csv(tmp_path / "ablation.csv").set_index("variant")
    assert frame["difference"].dtype == "float64"
    assert frame["difference_num_pairs"].dropna().tolist() == [5, 3, 0, 0]
    assert frame.loc["stn_affine", "difference"] == pytest.approx(0.0, abs=1e-15)
    assert frame.loc["stn_affine", "other_run_keys"] == (
        f"{key_of('upright', 'stn_affine', 12)}:diverged {key_of('upright', 'stn_affine', 14)}:missing"
    )


def test_tables_import_no_plotting_and_no_torch() -> None:
    code = "import sys, analysis.tables; analysis.tables.builders(); "
    code += "print(*({'torch', 'seaborn', 'matplotlib', 'experiments'} & set(sys.modules)))"
    root = ROOT
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
