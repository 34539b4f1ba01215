"""The shipped study at its smallest budget, through the real command line; and a run on real images where there are."""

import csv
import json
from pathlib import Path

import pytest

from ledger.ledger import Ledger
from tests.support.command_line import run
from tests.support.project import ROOT

pytestmark = pytest.mark.long

SHIPPED = ROOT / "sweep.yaml"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_study_at_budget_smoke(tmp_path: Path, cache: Path) -> None:
    ended = run("sweep", "--sweep", SHIPPED, "--budget", "smoke", cwd=tmp_path, patience_s=800)
    assert (ended.returncode, ended.stderr) == (0, "")
    ledger = Ledger(tmp_path / "runs", read_only=True)
    (study,) = ledger.studies()
    assert study == "stn-vs-augmentation-sprites-smoke"
    arms = ledger.read_study(study)["arms"]
    assert len(arms) == 6
    for arm in arms:
        assert (len(arm["trials"]), len(arm["finals"])) == (2, 2)
        records = [ledger.read(key) for key in (*arm["trials"], *arm["finals"])]
        assert [record["status"] for record in records] == ["completed"] * 4
        assert set(arm["winners"]) <= set(arm["trials"])
    assert len(ledger) == 24

    out = tmp_path / "reports" / study
    with (out / "ablation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == [arm["variant"] for arm in arms]
    for row, arm in zip(rows, arms, strict=True):
        accuracies = [ledger.read(key)["result"]["test_accuracy"] for key in arm["finals"]]
        assert float(row["test_accuracy"]) == pytest.approx(sum(accuracies) / 2)
        assert row["task"] == "sprites" and row["final_runs"] == "2 completed"
    # Even three epochs are better than the one in ten of a guess: 12,000 guesses would come within 0.1 +- 0.01.
    assert sum(float(row["test_accuracy"]) for row in rows) / 6 > 0.12
    assert {path.name for path in out.iterdir()} >= {"ablation.md", "ablation.tex", "ablation.csv", "times.csv"}
    assert all(variant in ended.stdout.partition("Ablation on sprites")[2] for variant in ("cnn", "stn_affine+affine"))
    assert len(list((tmp_path / "runs/wandb").glob("offline-run-*"))) == 24


def test_a_run_on_real_images(real_images: Path, tmp_path: Path, cache: Path) -> None:
    for part, num_images in (("train", 64), ("test", 16)):
        for class_folder in (real_images / part).iterdir():
            (tmp_path / "images" / part / class_folder.name).mkdir(parents=True)
            for image in sorted(class_folder.iterdir())[:num_images]:
                (tmp_path / "images" / part / class_folder.name / image.name).symlink_to(image)
    command = ("run", "--data", "images", "--label", "CIFAR-10 (JPEG)", "--variant=stn_affine+flip_crop")
    ended = run(*command, "--stage=final", "--protocol.epochs=2", "--protocol.batch_size=64", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    (folder,) = (tmp_path / "runs/runs").iterdir()
    record = json.loads((folder / "run.json").read_text())
    task, result = record["task"], record["result"]
    assert (record["status"], task["name"], task["label"]) == ("completed", "folder", "CIFAR-10 (JPEG)")
    assert task["classes"] == sorted(path.name for path in (real_images / "train").iterdir())
    # A fifth of the 640 training images is held out.
    assert [result[f"num_{part}_images"] for part in ("train", "val", "test")] == [512, 128, 160]
    assert (folder / "transformer.png").read_bytes().startswith(b"\x89PNG")
