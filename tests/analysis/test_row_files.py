"""The CSV files of all epochs and all predictions, beside the tables."""

import json
from pathlib import Path

import pandas as pd
import pytest
import safetensors.numpy

from analysis.findings import find
from analysis.tables import write_tables
from tests.support.synthetic_ledger import SEEDS, STUDY, write_arm, write_evaluation, write_run, write_study


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two arms of three final runs, of which one diverged, and a run that the study does not list."""
    root = tmp_path / "runs"
    arms = [
        write_arm(root, "cnn", "cnn", [0.5, 0.52, 0.54]),
        write_arm(root, "cnn+affine", "cnn", [0.6, "diverged", 0.65]),
    ]
    write_study(root, arms)
    for seed, key in zip(SEEDS, arms[0]["finals"], strict=False):
        write_evaluation(root, key, accuracy=0.6, seed=seed)
    write_run(root, "alone", variant="cnn", stage="trial")
    return root


def test_the_files_say_what_the_runs_say(tmp_path: Path, ledger: Path) -> None:
    paths = write_tables(find(ledger, STUDY), tmp_path)
    assert {tmp_path / "history.csv", tmp_path / "predictions.csv.gz"} <= set(paths)
    configs = {path.parent.name: json.loads(path.read_text())["config"] for path in ledger.glob("runs/*/run.json")}
    history = pd.read_csv(tmp_path / "history.csv")
    assert set(history["key"]) == {key for key in configs if (ledger / "runs" / key / "history.json").exists()} - {
        "alone"
    }
    for key, rows in history.groupby("key"):
        known = pd.DataFrame(json.loads((ledger / "runs" / str(key) / "history.json").read_text()))
        pd.testing.assert_frame_equal(rows[known.columns].reset_index(drop=True), known, rtol=1e-5, check_dtype=False)
        assert set(rows["variant"]) == {configs[str(key)]["variant"]}
    predictions = pd.read_csv(tmp_path / "predictions.csv.gz")
    files = list(ledger.glob("runs/*/predictions.safetensors"))
    assert len(files) == 3 and len(predictions) == 3 * 200 and set(predictions["stage"]) == {"final"}
    for file in files:
        known = pd.DataFrame(safetensors.numpy.load_file(file))
        rows = predictions[predictions["key"] == file.parent.name].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[known.columns], known, rtol=1e-5, check_dtype=False)


def test_the_same_runs_give_the_same_bytes_and_none_give_no_file(tmp_path: Path, ledger: Path) -> None:
    write_tables(find(ledger, STUDY), tmp_path)
    first = (tmp_path / "predictions.csv.gz").read_bytes()
    write_tables(find(ledger, STUDY), tmp_path)
    assert (tmp_path / "predictions.csv.gz").read_bytes() == first
    for file in ledger.glob("runs/*/predictions.safetensors"):
        file.unlink()
    write_tables(find(ledger, STUDY), tmp_path)
    assert not (tmp_path / "predictions.csv.gz").exists() and (tmp_path / "history.csv").exists()


def test_too_many_predictions_are_left_to_analysis_load(
    tmp_path: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.row_files.MAX_BYTES", 3 * 200 * 12)  # the three files have headers too
    write_tables(find(ledger, STUDY), tmp_path)
    assert not (tmp_path / "predictions.csv.gz").exists() and (tmp_path / "history.csv").exists()
