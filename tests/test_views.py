"""A study at equal epochs, FLOPs and parameters, against numbers worked out by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.records import Study, read_study
from analysis.views import BudgetRow, ParametersRow, equal_epochs, equal_flops, equal_parameters
from tests.synthetic_ledger import STUDY, edit_json, key_of, write_arm, write_json, write_study

SEEDS = (11, 12, 13)


def set_curve(ledger: Path, variant: str, seed: int, curve: Sequence[float | None]) -> None:
    file = ledger / "runs" / key_of("upright", variant, seed) / "history.json"
    write_json(file, [{"epoch": epoch, "val_accuracy": value} for epoch, value in enumerate(curve, 1)])


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Six epochs of cnn cost two of stn; monster's first epoch costs more than all of cnn's."""
    arms = []
    for variant, flops in (("cnn", 6e11), ("stn", 1.7e12), ("monster", 6e12)):
        arms.append(write_arm(tmp_path, variant, "cnn", [0.5, 0.5, 0.5], train_flops=flops, trial_statuses=()))
        for i, seed in enumerate(SEEDS):
            rise = {"cnn": 0.10, "stn": 0.12, "monster": 0.14}[variant]
            set_curve(tmp_path, variant, seed, [round(rise * epoch + 0.01 * i, 3) for epoch in range(1, 7)])
    write_study(tmp_path, arms)
    return read_study(tmp_path, STUDY)


def by_variant(rows: Sequence[Any]) -> dict[str, Any]:
    return {row.variant: row for row in rows}


def test_equal_epochs(study: Study) -> None:
    rows = equal_epochs(study)
    assert [row.variant for row in rows] == ["cnn", "stn", "monster"]
    found = by_variant(rows)
    assert [row.epochs for row in rows] == [6, 6, 6]
    assert found["stn"].val_accuracy.value == pytest.approx(0.72 + 0.01)
    assert found["stn"].difference.value == pytest.approx(0.12)
    assert found["stn"].difference.half_width == pytest.approx(0, abs=1e-12)
    assert found["cnn"].difference is None
    assert found["stn"].train_flops == pytest.approx(1.7e12)
    assert found["stn"].budget_flops is None
    assert found["stn"].keys == tuple(key_of("upright", "stn", seed) for seed in SEEDS)


def test_equal_epochs_are_those_of_the_shortest_run(study: Study) -> None:
    file = study.ledger / "runs" / key_of("upright", "cnn", 12) / "run.json"
    edit_json(file, result=json.loads(file.read_text())["result"] | {"epochs": 4})
    found = by_variant(equal_epochs(read_study(study.ledger, STUDY)))
    assert found["stn"].epochs == 4
    assert found["stn"].difference.value == pytest.approx(0.48 - 0.40)


def test_equal_flops(study: Study) -> None:
    rows = equal_flops(study)
    assert {row.budget_flops for row in rows} == {6e11}
    found: dict[str, BudgetRow] = by_variant(rows)
    assert [row.epochs for row in rows] == [6, 2, 0]
    assert found["stn"].train_flops == pytest.approx(1.7e12 / 3)
    assert found["stn"].val_accuracy.value == pytest.approx(0.25)
    assert found["stn"].difference is not None
    assert found["stn"].difference.value == pytest.approx(0.24 - 0.60)
    assert found["monster"].val_accuracy.num == found["monster"].difference.num == 0  # type: ignore[union-attr]
    assert found["monster"].keys == ()


def test_views_of_runs_that_are_missing_or_failed(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, "cnn", "cnn", [0.5, "failed", None, 0.5]),
        write_arm(tmp_path, "stn", "cnn", ["diverged", 0.5, 0.6, 0.6], train_flops=3e12),
        write_arm(tmp_path, "late", "cnn", ["failed", None]),
        {"pose": "R", "variant": "cnn", "baseline": "cnn", "trials": [], "winner": None, "finals": []},
    ]
    write_study(tmp_path, arms)
    study = read_study(tmp_path, STUDY)
    for view in (equal_epochs, equal_flops):
        cnn, stn, late, other = view(study)
        assert (cnn.val_accuracy.num, stn.val_accuracy.num) == (2, 3 if view is equal_epochs else 0)
        assert (late.epochs, late.val_accuracy.num, late.train_flops) == (None, 0, None)
        assert (other.epochs, other.budget_flops) == (None, None)
    assert equal_epochs(study)[1].difference.num == 1  # type: ignore[union-attr]


def test_views_without_histories_or_validation(study: Study) -> None:
    for seed in SEEDS:
        (study.ledger / "runs" / key_of("upright", "stn", seed) / "history.json").unlink()
        set_curve(study.ledger, "cnn", seed, [None] * 6)
    for row in (*equal_epochs(study)[:2], *equal_flops(study)[:2]):
        assert row.val_accuracy.num == 0


def test_equal_parameters(tmp_path: Path) -> None:
    sizes = {
        "cnn": 100_000,
        "cnn@cnn:width=1.2": 140_000,
        "cnn@cnn:width=1.3": 150_000,
        "stn": 146_000,
        "stn+affine": 146_000,
        "cnn+affine": 100_000,
        "stn@vit": 200_000,
    }
    gains = dict(zip(sizes, (0, 0.01, 0.02, 0.05, 0.06, 0.03, 0.04), strict=True))
    arms = [
        write_arm(tmp_path, v, "cnn", [0.5 + gains[v], 0.6 + gains[v]], num_parameters=size, trial_statuses=())
        for v, size in sizes.items()
    ]
    write_study(tmp_path, arms)
    found: dict[str, ParametersRow] = by_variant(equal_parameters(read_study(tmp_path, STUDY)))
    assert {variant: row.match for variant, row in found.items()} == {
        "cnn": None,
        "cnn@cnn:width=1.2": "stn",  # 6,000 off, and 10,000 is more than 5 %
        "cnn@cnn:width=1.3": "stn",
        "stn": "cnn@cnn:width=1.3",
        "stn+affine": None,  # nothing else of that policy is as large
        "cnn+affine": None,
        "stn@vit": None,
    }
    stn = found["stn"]
    assert (stn.num_parameters, stn.match_parameters) == (146_000, 150_000)
    assert stn.difference is not None
    assert (stn.difference.value, stn.difference.num) == (pytest.approx(0.03), 2)
    assert stn.keys == tuple(key_of("upright", v, seed) for v in ("stn", "cnn@cnn:width=1.3") for seed in (11, 12))


def test_equal_parameters_of_controls(tmp_path: Path) -> None:
    """Controls are as large as what they stand beside, and no other use of the same parameters."""
    sizes = {"cnn": 100_000, "oracle_unwarp": 100_000, "cnn_matched": 147_000}
    sizes |= {"stn_affine": 146_000, "stn_shuffled": 146_000, "stn_affine:padding=border": 146_000}
    arms = [write_arm(tmp_path, v, "cnn", [0.5, 0.6], num_parameters=n, trial_statuses=()) for v, n in sizes.items()]
    write_study(tmp_path, arms)
    found: dict[str, ParametersRow] = by_variant(equal_parameters(read_study(tmp_path, STUDY)))
    assert {variant: row.match for variant, row in found.items()} == {
        "cnn": None,
        "oracle_unwarp": None,
        "cnn_matched": "stn_affine",
        "stn_affine": "cnn_matched",
        "stn_shuffled": "cnn_matched",
        "stn_affine:padding=border": "cnn_matched",
    }


def test_equal_parameters_of_arms_without_runs(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path, "cnn", "cnn", [None, "failed"]), write_arm(tmp_path, "stn", "cnn", [0.5, 0.6])]
    write_study(tmp_path, arms)
    cnn, stn = equal_parameters(read_study(tmp_path, STUDY))
    assert (cnn.num_parameters, cnn.match, stn.match) == (None, None, None)
