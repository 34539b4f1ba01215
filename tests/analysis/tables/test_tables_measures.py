"""Tables of what was measured: invariance, corruptions, classes, costs, failures, hyper-parameters, runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.findings import Findings, find
from analysis.formats import csv_document
from analysis.tables import builders, failures, runs, write_tables
from analysis.tables.score_grid import thinned
from ledger.errors import UserError
from tests.support.built_tables import built, cells, lines
from tests.support.synthetic_ledger import (
    SEEDS,
    STUDY,
    TASK,
    edit_json,
    key_of,
    write_arm,
    write_evaluation,
    write_study,
    write_tiny_study,
)

CNN, STN = [0.50, 0.52, 0.54], [0.55, 0.58, 0.59]


@pytest.fixture
def measured(tmp_path: Path) -> Findings:
    arms = [write_arm(tmp_path, "cnn", "cnn", CNN), write_arm(tmp_path, "stn", "cnn", STN)]
    arms.append(write_arm(tmp_path, "late", "cnn", [None, "failed", 0.9]))
    for arm, accuracies in zip(arms, (CNN, STN), strict=False):
        for seed, (key, accuracy) in enumerate(zip(arm["finals"], accuracies, strict=True)):
            write_evaluation(tmp_path, key, accuracy=accuracy, seed=seed)
    write_study(tmp_path, arms)
    return find(tmp_path, STUDY)


def test_invariance(measured: Findings) -> None:
    table = built("invariance", measured)
    headings = [section.heading for section in table.sections]
    assert headings[:3] == [
        "Summary",
        "Accuracy % over rotation, degrees anticlockwise",
        "Agreement % over rotation, degrees anticlockwise",
    ]
    turned = cells(table, 1)
    assert list(turned) == ["cnn", "stn"]  # nobody measured the third
    assert list(turned["cnn"])[2:] == ["−90°", "0°", "90°"]
    assert turned["stn"]["−90°"] == f"{100 * 0.6 * np.mean(STN):.1f}"
    assert cells(table, 2)["stn"]["−90°"] == "60.0"
    assert not any(cell.strong for row in table.sections[2].table.cells for cell in row)  # agreement is no merit
    row = next(row for row in lines(table) if (row["variant"], row["kind"], row["value"]) == ("stn", "rotation", 90))
    interval = stats.t.interval(0.95, 2, loc=0, scale=stats.sem([0.6 * score for score in STN]))
    assert row["accuracy"] == pytest.approx(0.6 * np.mean(STN))
    assert row["accuracy_half_width"] == pytest.approx(interval[1])
    assert row["agreement"] == 0.6
    assert str(row["run_keys"]).split() == [key_of("upright", "stn", seed) for seed in SEEDS[:3]]
    assert "63 points of a grid of rotations up to 30° and shifts up to 3 px" in table.notes[-1]


def test_corruptions(measured: Findings) -> None:
    table = built("corruptions", measured)
    assert [section.heading for section in table.sections] == [
        "Geometric corruptions, mean over severities",
        "Geometric corruptions, mean over corruptions",
        "Photometric corruptions, mean over severities",
        "Photometric corruptions, mean over corruptions",
    ]
    assert cells(table, 0)["stn"]["rotate"] == f"{100 * np.mean(STN) * 0.7:.1f}"
    assert cells(table, 3)["cnn"]["severity 5"] == f"{100 * np.mean(CNN) * 0.5:.1f}"
    noise = [row for row in lines(table) if row["corruption"] == "gaussian_noise" and row["variant"] == "cnn"]
    assert [row["severity"] for row in noise] == [1, 2, 3, 4, 5]
    assert noise[0]["accuracy"] == pytest.approx(0.9 * np.mean(CNN))


def test_older_formats_have_no_such_tables(tmp_path: Path) -> None:
    """Format 1 and 2 have neither robustness nor calibration, and no accuracies by class are fine too."""
    arms = [write_arm(tmp_path, "cnn", "cnn", CNN), write_arm(tmp_path, "stn", "cnn", STN)]
    write_study(tmp_path, arms, format=2)
    for file in tmp_path.glob("runs/*/run.json"):
        run = json.loads(file.read_text())
        new = ("test_ece", "rotation_accuracy", "corruption_accuracy", "worst_of_grid_accuracy", "test_class_accuracy")
        edit_json(file, format=2, result={name: value for name, value in run["result"].items() if name not in new})
    findings = find(tmp_path, STUDY)
    assert not [name for name in ("invariance", "corruptions", "classes") if builders()[name](findings)]
    assert built("leaderboard", findings).sections[0].table.columns == (
        "Variant", "Test %", "NLL", "n", "Parameters", "Training FLOPs"
    )  # fmt: skip
    write_tables(findings, tmp_path / "out")


def test_wide_tables_are_thinned() -> None:
    assert thinned([str(i) for i in range(13)]) == [str(i) for i in range(13)]
    assert thinned([str(i) for i in range(25)]) == [str(i) for i in range(0, 25, 2)]
    assert len(set(thinned([str(i) for i in range(40)]))) == 13


def test_classes(measured: Findings) -> None:
    table = built("classes", measured)
    found = cells(table)
    assert list(found["cnn"]) == ["Variant", "Test %", "NLL", "ECE %", "a", "b"]
    assert (found["cnn"]["a"], found["cnn"]["b"]) == ("42.0", "62.0")
    rows = {(row["variant"], row["class"]): row for row in lines(table)}
    assert rows["stn", "b"]["accuracy"] == pytest.approx(np.mean(STN) + 0.1)
    assert rows["stn", "b"]["accuracy_num_seeds"] == 3
    assert rows["late", "a"]["accuracy_num_seeds"] == 1


def test_many_classes_are_named_by_the_worst_and_the_best(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "cnn", "cnn", [0.5, 0.5])
    write_study(tmp_path, [arm], task=TASK | {"classes": [f"c{k}" for k in range(30)]})
    for key in arm["finals"]:
        file = tmp_path / "runs" / key / "run.json"
        result = json.loads(file.read_text())["result"]
        edit_json(file, result=result | {"test_class_accuracy": [None, *(k / 30 for k in range(1, 30))]})
    (row,) = built("classes", find(tmp_path, STUDY)).sections[0].table.rows
    assert row[-2].startswith("c1 3.3, c2 6.7, ")
    assert row[-1].startswith("c29 96.7, c28 93.3, ")
    assert len(lines(built("classes", find(tmp_path, STUDY)))) == 29  # of the first there is no test image


def test_class_accuracies_of_another_form_are_refused(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "cnn", "cnn", [0.5])
    write_study(tmp_path, [arm])
    edit_json(tmp_path / "runs" / arm["finals"][0] / "run.json", result={"test_class_accuracy": ["a"]})
    with pytest.raises(UserError, match=r"run\.json: 'test_class_accuracy' is \['a'\], expected numbers or null"):
        find(tmp_path, STUDY)


def test_costs(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    table = built("costs", find(tmp_path, STUDY))
    found = cells(table)
    assert list(found["stn_affine"].values())[2:] == ["243,146", "7.76", "3.20 TFLOP", "10.32", "25.6 TFLOP", "8"]
    row = lines(table)[2]
    assert row["num_parameters_ratio"] == 243_146 / 31_340
    assert row["train_flops_ratio"] == pytest.approx(3.2e12 / 3.1e11)
    assert lines(table)[4]["train_flops"] is None


PRICED = ("leaderboard", "ablation", "costs")
"""Tables that say what a prediction costs."""


def test_what_a_prediction_costs(tmp_path: Path) -> None:
    """Of an arm whose runs are older nothing is said; of one that has some of each, what the newer ones say."""
    arms = [
        write_arm(tmp_path, "cnn", "cnn", CNN, prediction=(2.0e7, 1.0)),
        write_arm(tmp_path, "cnn_tta", "cnn", STN, prediction=(1.8e8, 9.0)),
        write_arm(tmp_path, "old", "cnn", STN),
    ]
    write_study(tmp_path, arms)
    first = tmp_path / "runs" / arms[1]["finals"][0] / "run.json"
    result = json.loads(first.read_text())["result"]
    edit_json(first, result={name: value for name, value in result.items() if not name.startswith("predict_")})
    findings = find(tmp_path, STUDY)
    for name in PRICED:
        found = cells(built(name, findings))
        shown = {variant: (row["Prediction FLOPs"], row["Passes"]) for variant, row in found.items()}
        assert shown == {"cnn": ("20.0 MFLOP", "1"), "cnn_tta": ("180 MFLOP", "9"), "old": ("—", "—")}
        rows = {row["variant"]: (row["predict_flops"], row["predict_passes"]) for row in lines(built(name, findings))}
        assert rows == {"cnn": (2.0e7, 1), "cnn_tta": (1.8e8, 9), "old": (None, None)}
    assert {name: row["Prediction ×"] for name, row in cells(built("costs", findings)).items()} == {
        "cnn": "1.00", "cnn_tta": "9.00", "old": "—",
    }  # fmt: skip
    assert any(row["predict_flops"] for row in lines(built("runs", findings)))


def test_older_ledgers_have_no_such_columns(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    for name in (*PRICED, "runs"):
        table = built(name, find(tmp_path, STUDY))
        assert not [column for column in table.columns if column.startswith("predict_")]
        assert not any("Passes" in section.table.columns for section in table.sections)
        assert not any("Prediction FLOPs" in note for note in table.notes)


def test_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_study(tmp_path)
    findings = find(tmp_path, STUDY)
    table = built("failures", findings)
    assert cells(table)["stn_affine+affine"]["Final runs"] == "2 failed, 3 missing"
    assert "late" not in cells(table)
    lost = cells(table, 1)
    failed = lost[key_of("upright", "stn_affine+affine", 11)]
    assert (failed["Status"], failed["Error"], failed["Seed"]) == ("failed", "out of memory | <8 GiB>", "11")
    missing = lost[key_of("upright", "stn_affine", 14)]
    assert (missing["Status"], missing["Seed"]) == ("missing", "14")  # as the other arms tell
    statuses = pd.Series([row["status"] for row in lines(table)]).value_counts().to_dict()
    assert statuses == {"pruned": 4, "missing": 4, "failed": 3, "diverged": 1}
    monkeypatch.setattr(failures, "MAX_LISTED", 3)
    table = built("failures", findings)
    assert len(table.sections[1].table.rows) == 3
    assert len(table.rows) == 12
    assert "The first 3 of 8 such runs are listed" in table.notes[-1]


def test_no_failures(tmp_path: Path) -> None:
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", CNN, trial_statuses=("completed",))])
    assert builders()["failures"](find(tmp_path, STUDY)) is None


def test_hyper_parameters(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    rows = {row["variant"]: row for row in lines(built("hyper_parameters", find(tmp_path, STUDY)))}
    assert (rows["stn_affine"]["optim.lr"], rows["stn_affine"]["model.loc_lr_factor"]) == (0.1, 0.25)
    assert rows["stn_affine"]["run_keys"] == key_of("upright", "stn_affine", "trial", 1)
    assert rows["late"]["optim.lr"] is None


def test_every_run_is_in_the_table_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_study(tmp_path)
    findings = find(tmp_path, STUDY)
    table = built("runs", findings)
    (tmp_path / "runs.csv").write_text(csv_document(table))
    frame = pd.read_csv(tmp_path / "runs.csv").set_index("run_keys")
    assert sorted(frame.index) == sorted(findings.study.runs["key"])
    run = frame.loc[key_of("upright", "cnn", 12)]
    assert (run["seed"], run["test_accuracy"], run["status"], run["optim.lr"]) == (12, 0.52, "completed", 0.1)
    assert not {"train_seconds", "device"} & set(frame.columns)  # they differ between repetitions
    assert len(table.sections[0].table.rows) == 16
    monkeypatch.setattr(runs, "MAX_LISTED", 3)
    assert len(built("runs", findings).sections[0].table.rows) == 3
    assert len(built("runs", findings).rows) == len(table.rows)
