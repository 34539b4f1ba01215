"""What a final run leaves of its evaluation: the files, what run.json says of them, and that both agree."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from sklearn.metrics import f1_score

from analysis.evaluations import read_maps, read_predictions, read_robustness, read_worst_of_grid
from analysis.records import Study
from experiments.runs.robustness import num_evaluations
from experiments.runs.run import make_run
from experiments.sweep.estimate import seconds_of_runs
from ledger.config import Optim, RunConfig
from ledger.ledger import Ledger
from tests.support.tiny_study import TINY, plan_of
from tests.support.trained_runs import TINY as FINAL
from tests.support.trained_runs import job_on_sprites, sprites_in

EVALUATED = {"predictions.safetensors", "robustness.json", "maps.safetensors", "weights.safetensors"}


@pytest.fixture(scope="module")
def sprites(cache):
    return sprites_in(cache)


@pytest.fixture(scope="module")
def made(cache, tmp_path_factory):
    """Make a run, as a worker does, in a ledger of its own; returns its folder. The same run is made once."""
    known: dict[str, Path] = {}

    def make(variant: str, *, again: bool = False, stage: Any = "final", **protocol: Any) -> Path:
        protocol = {"test_images": 40, "robustness": "quick", "robustness_images": 6, **protocol}
        run = RunConfig(
            variant=variant, seed=1, stage=stage, pose="R", optim=Optim(lr=0.05), protocol=replace(FINAL, **protocol)
        )
        job = job_on_sprites(run, cache, tmp_path_factory.mktemp("ledger"))
        if again or job.key not in known:
            torch.manual_seed(len(known))
            make_run(job, torch.device("cpu"))
            known[job.key] = Ledger(job.ledger).folder(job.key)
        return known[job.key]

    return make


def result_of(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed", record["error"]
    result: dict[str, Any] = record["result"]
    return result


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def study_of(folder: Path) -> Study:
    """For the readers, which need nothing of it but where the ledger is."""
    study = Study.__new__(Study)
    object.__setattr__(study, "ledger", folder.parents[1])
    return study


@pytest.mark.long
def test_a_final_run_leaves_what_it_knows(made):
    assert files_of(made("cnn@lenet")) & EVALUATED == EVALUATED - {"maps.safetensors"}
    assert files_of(made("stn_affine@lenet")) & EVALUATED == EVALUATED


def test_a_trial_leaves_nothing_of_the_kind(made):
    folder = made("stn_affine@lenet", stage="trial")
    assert not files_of(folder) & EVALUATED
    result = result_of(folder)
    of_tests = (
        "test_accuracy",
        "test_ece",
        "test_auroc",
        "test_macro_f1",
        "rotation_accuracy",
        "corruption_accuracy",
        "worst_of_grid_accuracy",
    )
    assert {result[name] for name in of_tests} == {None}


def test_a_protocol_without_robustness(made):
    folder = made("cnn@lenet", robustness="none")
    assert files_of(folder) & EVALUATED == {"predictions.safetensors", "weights.safetensors"}
    result = result_of(folder)
    assert {result[f"{kind}_accuracy"] for kind in ("rotation", "corruption", "worst_of_grid")} == {None}
    assert result["test_ece"] is not None


def test_predictions_are_those_that_the_scores_are_of(made, sprites):
    folder = made("cnn@lenet")
    arrays = safetensors.numpy.load_file(folder / "predictions.safetensors")
    assert {name: array.dtype for name, array in arrays.items()} == {
        "label": np.int16, "predicted": np.int16, "confidence": np.float32, "label_probability": np.float32,
    }  # fmt: skip
    result, correct_N = result_of(folder), arrays["label"] == arrays["predicted"]
    assert result["test_accuracy"] == correct_N.mean()
    assert result["test_loss"] == pytest.approx(-np.log(arrays["label_probability"].astype(float)).mean(), rel=1e-4)
    by_class = pd.Series(correct_N).groupby(arrays["label"]).mean()
    assert result["test_balanced_accuracy"] == pytest.approx(by_class.mean())
    assert result["test_macro_f1"] == pytest.approx(f1_score(arrays["label"], arrays["predicted"], average="macro"))
    assert 0 <= result["test_auroc"] <= 1
    confidence_N = arrays["confidence"].astype(np.float64)
    bins = pd.cut(pd.Series(confidence_N), np.linspace(0, 1, 16).tolist())
    gaps = pd.Series(correct_N - confidence_N).groupby(bins, observed=True)
    assert result["test_ece"] == pytest.approx((gaps.mean().abs() * gaps.size()).sum() / 40)
    np.testing.assert_array_equal(arrays["confidence"][correct_N], arrays["label_probability"][correct_N])
    assert (arrays["confidence"][~correct_N] >= arrays["label_probability"][~correct_N]).all()


def test_labels_are_the_same_images_for_every_variant(made, sprites):
    one, other = (safetensors.numpy.load_file(made(name) / "predictions.safetensors") for name in VARIANTS)
    np.testing.assert_array_equal(one["label"], other["label"])
    assert len(one["label"]) == 40 and set(one["label"]) <= set(range(len(sprites.classes)))


VARIANTS = ("cnn@lenet", "stn_affine@lenet")


@pytest.mark.parametrize("variant", VARIANTS)
def test_robustness_is_what_analysis_reads_and_what_is_summed_up(made, variant):
    folder = made(variant)
    record = json.loads((folder / "robustness.json").read_text())
    assert record["num_images"] == 6
    assert set(record) == {"num_images", "points", "worst_of_grid", "corruptions"}
    assert {tuple(point) for point in record["points"]} == {("kind", "value", "accuracy", "agreement")}
    assert {tuple(point) for point in record["corruptions"]} == {("name", "kind", "severity", "accuracy")}
    study, result = study_of(folder), result_of(folder)
    frame = read_robustness(study, [folder.name])
    rotations = frame[(frame["kind"] == "rotation") & (frame["value"] < 180)]
    assert result["rotation_accuracy"] == pytest.approx(rotations["accuracy"].mean()) and len(rotations) == 12
    corrupted = frame[frame["kind"].isin(["geometric", "photometric"])]
    assert result["corruption_accuracy"] == pytest.approx(corrupted["accuracy"].mean())
    assert set(corrupted.groupby("name").size()) == {5} and set(corrupted["value"]) == {1, 2, 3, 4, 5}
    worst = read_worst_of_grid(study, folder.name)
    assert worst == {"max_deg": 30, "max_px": 3, "num_points": 63, "accuracy": result["worst_of_grid_accuracy"]}
    upright = frame[(frame["kind"] == "rotation") & (frame["value"] == 0)]
    assert upright["agreement"].item() == 1 and worst["accuracy"] <= upright["accuracy"].item()


@pytest.mark.parametrize(("variant", "num_heads"), [("stn_affine@lenet", 1), ("stn_affine:heads=4:size=0.5", 4)])
def test_maps_are_those_that_the_diagnosis_is_of(made, variant, num_heads):
    folder = made(variant, robustness="none")
    maps = read_maps(study_of(folder), folder.name)
    assert maps is not None
    assert maps.theta_HN23.shape == (num_heads, 40, 2, 3) and maps.true_theta_N23.shape == (40, 2, 3)
    zoom = np.median(np.sqrt(np.abs(np.linalg.det(maps.theta_HN23[..., :2].astype(float)))))
    assert result_of(folder)["transformer"]["zoom"] == pytest.approx(zoom, rel=1e-3)
    # The pose R turns by up to 90 degrees about the centre; sprites have a turn, a scale and a shift of their own.
    assert np.linalg.det(maps.true_theta_N23[..., :2]).min() > 0
    angle_N = np.rad2deg(np.arctan2(maps.true_theta_N23[:, 1, 0], maps.true_theta_N23[:, 0, 0]))
    assert angle_N.std() > 30


def test_the_oracle_s_maps_are_the_true_ones(made):
    folder = made("oracle_unwarp@lenet", robustness="none")
    maps = read_maps(study_of(folder), folder.name)
    assert maps is not None
    np.testing.assert_allclose(maps.theta_HN23[0], maps.true_theta_N23, atol=1e-5)


def test_a_run_made_twice_is_the_same_but_for_its_cost(made):
    first = made("stn_affine@lenet")
    again = made("stn_affine@lenet", again=True)
    assert first != again and files_of(first) == files_of(again)
    for name in files_of(first) - {"cost.json", "SHA256SUMS"}:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_predictions_read_by_analysis(made):
    folder = made("cnn@lenet")
    found = read_predictions(study_of(folder), folder.name)
    assert found is not None
    assert found.correct_N.mean() == result_of(folder)["test_accuracy"]


@pytest.mark.parametrize("density", ["none", "quick", "full"])
def test_the_estimate_of_a_study_counts_it(density, here, monkeypatch):
    """At a training speed of 300 images/s, when a prediction takes a third of a step."""
    monkeypatch.setattr("experiments.sweep.estimate._share_of_flops", lambda *_: 1 / 3)
    plan = plan_of(here, protocol={**TINY["protocol"], "robustness": density, "robustness_images": 20})
    trial, final = seconds_of_runs(plan, plan.arms[0], 300.0)
    num_asked = 100 + num_evaluations(plan.protocol, 100)
    assert final - trial == pytest.approx(num_asked / 900)
    assert num_asked == 100 if density == "none" else num_asked > 20 * 100
