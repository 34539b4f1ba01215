"""`analysis.load`: a ledger as data frames, which say what its files say; the recipes of the documentation."""

import cProfile
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from matplotlib import pyplot as plt

import analysis
from ledger.checksums import SUMS, write_sums
from ledger.errors import UserError
from tests.documentation.pages import blocks_of
from tests.support.large_ledger import write_large_study
from tests.support.project import ROOT
from tests.support.synthetic_ledger import SEEDS, STUDY, write_arm, write_evaluation, write_run, write_study

PAGE = "docs/your-own-figures.md"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Three arms of three final runs with predictions, one of which diverged, and a run that no study lists."""
    root = tmp_path / "runs"
    lost: list[float | str | None] = [0.7, "diverged", 0.66]
    arms = [
        write_arm(root, "cnn", "cnn", [0.5, 0.52, 0.54]),
        write_arm(root, "cnn+affine", "cnn", [0.6, 0.61, 0.65]),
        write_arm(root, "stn_affine", "cnn", lost, model={"loc_lr_factor": 0.25}),
    ]
    write_study(root, arms)
    for arm in arms:
        for seed, key in zip(SEEDS, arm["finals"], strict=False):
            if json.loads((root / "runs" / key / "run.json").read_text())["status"] == "completed":
                write_evaluation(root, key, accuracy=0.6, seed=seed)
    write_run(root, "alone", variant="cnn", stage="trial")
    return root


def records(ledger: Path, name: str = "run.json") -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text()) for path in ledger.glob(f"runs/*/{name}")}


def test_runs_are_what_their_files_say(ledger: Path) -> None:
    runs, known, costs = analysis.load(ledger).runs.set_index("key"), records(ledger), records(ledger, "cost.json")
    assert set(runs.index) == set(known) and len(known) == 19
    for key, row in runs.iterrows():
        record = known[str(key)]
        assert (row["variant"], row["stage"], row["seed"]) == tuple(
            record["config"][name] for name in ("variant", "stage", "seed")
        )
        assert row["status"] == record["status"] and row["task"] == record["task"]["label"]
        assert row["optim.lr"] == record["config"]["optim"]["lr"] and row["protocol.epochs"] == 6
        assert row["train_seconds"] == costs[str(key)]["train_seconds"] and row["device_name"] == "A CPU"
        for name in ("test_accuracy", "val_accuracy", "rotation_accuracy"):
            assert row[name] == record["result"][name] or (math.isnan(row[name]) and record["result"][name] is None)
        assert (row["model.loc_lr_factor"] == 0.25) == (row["variant"] == "stn_affine")


def test_runs_without_what_came_later_have_its_default(ledger: Path) -> None:
    file = ledger / "runs/alone/run.json"
    record = json.loads(file.read_text())
    record["config"]["protocol"]["class_weights"] = "balanced"
    file.write_text(json.dumps(record))
    runs = analysis.load(ledger).runs
    assert runs.groupby("protocol.class_weights").size().to_dict() == {"balanced": 1, "none": len(runs) - 1}
    assert set(runs["protocol.fit"]) == {"crop"}


def test_histories_are_what_their_files_say(ledger: Path) -> None:
    history, known = analysis.load(str(ledger)).history, records(ledger, "history.json")
    assert len(history) == sum(map(len, known.values()))
    for key, rows in history.groupby("key"):
        assert rows.drop(columns="key").to_dict("records") == known[str(key)]


def test_predictions_are_what_their_files_say(ledger: Path) -> None:
    predictions = analysis.load(ledger).predictions
    files = list(ledger.glob("runs/*/predictions.safetensors"))
    assert len(files) == 8 and len(predictions) == 8 * 200
    for file in files:
        rows, arrays = predictions[predictions["key"] == file.parent.name], safetensors.numpy.load_file(file)
        assert list(rows["image"]) == list(range(200))
        assert all(np.array_equal(rows[name], values) for name, values in arrays.items())


def test_studies_list_their_runs_whether_made_or_not(ledger: Path) -> None:
    manifest = json.loads((ledger / "studies" / STUDY / "study.json").read_text())
    manifest["arms"][0]["finals"].append("not-made-yet")
    (ledger / "studies" / STUDY / "study.json").write_text(json.dumps(manifest))
    studies = analysis.load(ledger).studies
    for arm in manifest["arms"]:
        rows = studies[studies["variant"] == arm["variant"]]
        assert set(rows["study"]) == {STUDY} and set(rows["baseline"]) == {"cnn"}
        assert list(rows["key"]) == arm["trials"] + arm["finals"]
        assert list(rows["stage"]) == ["trial"] * 3 + ["final"] * len(arm["finals"])
        assert list(rows[rows["won"]]["key"]) == [arm["winner"]]


def test_an_empty_ledger_has_the_same_columns(tmp_path: Path, ledger: Path) -> None:
    (tmp_path / "empty/runs").mkdir(parents=True)
    empty, full = analysis.load(tmp_path / "empty"), analysis.load(ledger)
    for name in ("runs", "history", "predictions", "studies"):
        frame = getattr(empty, name)
        assert frame.empty and {*frame.columns} and {*frame.columns} <= {*getattr(full, name).columns}


def test_what_cannot_be_read_is_one_line(tmp_path: Path, ledger: Path) -> None:
    with pytest.raises(UserError, match="there is no ledger at"):
        analysis.load(tmp_path / "elsewhere")
    folder = next(ledger.glob("runs/*/predictions.safetensors")).parent
    (folder / SUMS).write_bytes(write_sums({path.name: path.read_bytes() for path in folder.iterdir()}))
    (folder / "history.json").write_text("[]")
    (folder / "predictions.safetensors").write_bytes(b"cut")
    loaded = analysis.load(ledger)
    for name in ("history", "predictions"):
        with pytest.raises(UserError, match=rf"{folder.name}/{name}.* does not fit SHA256SUMS") as refused:
            getattr(loaded, name)
        assert "\n" not in str(refused.value)
    (folder / SUMS).unlink()
    with pytest.raises(UserError, match=rf"{folder.name}/predictions.safetensors: cannot be opened"):
        _ = analysis.load(ledger).predictions


def test_naming_it_needs_no_pandas() -> None:
    program = "import sys, analysis; assert analysis.load and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_the_recipes_of_the_page(ledger: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(ledger.parent)
    blocks = [block for block in blocks_of(PAGE) if block.language == "python"]
    assert len(blocks) == 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.text, str(block), "exec"), names)
    plt.close("all")
    assert {path.name for path in Path().glob("*.png")} == {
        *("accuracy.png", "curves.png", "learning-rates.png", "confusion.png")
    }
    printed = capsys.readouterr().out
    assert re.search(r"cnn +0\.52 +0\.012 +3 +0\.050\n", printed)  # 0.5, 0.52, 0.54: t is 4.303
    assert re.search(r"mean +10\.0 +16\.00\n", printed)  # 60-50, 61-52, 65-54; 70-50, 66-54


@pytest.mark.long
def test_cost_grows_with_the_runs_and_no_faster(tmp_path: Path) -> None:
    calls = []
    for num_arms in (10, 20, 40):
        write_large_study(tmp_path / str(num_arms), num_arms, num_trials=4, num_finals=2, num_images=50)
        profile = cProfile.Profile()
        loaded = analysis.load(tmp_path / str(num_arms))
        profile.enable()
        for name in ("runs", "history", "predictions", "studies"):
            getattr(loaded, name)
        profile.disable()
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[2] - calls[1] < 2.3 * (calls[1] - calls[0])
