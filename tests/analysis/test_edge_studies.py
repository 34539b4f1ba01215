"""Studies at the edge: tables, figures and words come without a fault, and no library warns of anything."""

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from matplotlib.figure import Figure

from analysis.answer import answer, headline
from analysis.figures.registry import FORMATS, figure_files
from analysis.report import write_report
from analysis.tables import write_tables
from experiments.terminal.commands.options import find_study
from ledger.ledger import Ledger
from tests.support.synthetic_ledger import (
    SEEDS,
    STUDY,
    TASK,
    edit_json,
    key_of,
    transformer_record,
    write_arm,
    write_evaluation,
    write_maps,
    write_study,
)

pytestmark = pytest.mark.long

NOTHING = dict.fromkeys(("angle_error_deg", "angle_r2", "log_scale_r2", "shift_r2", "shift_error_px"))
Scores = Sequence[float | str | None]
STUDIES: dict[str, dict[str, Scores]] = {
    "two seeds": {"cnn": [0.5, 0.52], "stn_affine": [0.6, 0.61], "stn_affine+affine": [0.6, 0.6]},
    "one seed": {"cnn": [0.5], "stn_affine": [0.6]},
    "all right": {"cnn": [1.0] * 5, "stn_affine": [1.0] * 5, "oracle_unwarp": [1.0] * 5},
    "all wrong": {"cnn": [0.0] * 5, "stn_affine": [0.0] * 5},
    "an arm failed": {"cnn": [0.5, 0.52, 0.53], "stn_affine": ["failed"] * 3, "stn_tps": ["diverged", None, "failed"]},
    "no seed in common": {"cnn": [0.5, None, 0.52], "stn_affine": [None, 0.6, None]},
    "nothing": {"cnn": [None, None], "stn_affine": [None, None]},
    "one arm": {"cnn": [0.5, 0.51, 0.52]},
}


@pytest.fixture(autouse=True)
def pixels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure is drawn, but saved in one format: the others take most of the time, and show the same."""

    def files(drawn: Figure, kinds: Iterable[str] = tuple(FORMATS)) -> dict[str, bytes]:
        return dict.fromkeys(kinds, b"<svg/>") | figure_files(drawn, ("png",))

    monkeypatch.setattr("analysis.figures.registry.figure_files", files)


def write(ledger: Path, arms: dict[str, Scores], *, evaluated: bool = True, **task: Any) -> None:
    record = transformer_record(pose=NOTHING) | {"condition": None, "zoom": None}
    found = []
    for name, scores in arms.items():
        looks = [record if isinstance(score, float) else None for score in scores] if "stn" in name else ()
        found.append(write_arm(ledger, name, "cnn", scores, transformers=looks, task=TASK | task))
        for seed, score in zip(SEEDS, scores, strict=False):
            if isinstance(score, float) and evaluated:
                write_evaluation(ledger, key_of("upright", name, seed), accuracy=score, seed=seed)
                if "stn" in name:
                    write_maps(ledger, key_of("upright", name, seed), seed=seed, num_images=2)
    family = [
        {"pose": "upright", "variant": name, "baseline": "cnn", "interaction": False} for name in arms if name != "cnn"
    ]
    claims = {"alpha": 0.05, "margin": 0.01, "declared": True, "family": family}
    write_study(ledger, found, task=TASK | task, claims=claims, sampler="random")


def check(ledger: Path, out: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        findings = find_study(Ledger(ledger, read_only=True), STUDY)
        write_tables(findings, out)
        write_report(findings, out)
        assert headline(findings) and answer(findings) is not None
    assert findings.faults == {} and findings.notes == []
    for file in out.glob("*.md"):
        assert not {"nan", "inf"} & set(file.read_text(encoding="utf-8").lower().replace("|", " ").split()), file.name


@pytest.mark.parametrize("name", STUDIES)
def test_edge_studies(name: str, tmp_path: Path) -> None:
    write(tmp_path / "runs", STUDIES[name])
    check(tmp_path / "runs", tmp_path / "out")


def test_a_class_that_the_test_part_lacks(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    write(ledger, {"cnn": [0.5, 0.52, 0.53], "stn_affine": [0.6, 0.61, 0.62]}, classes=["a", "b", "c"])
    for file in ledger.glob("runs/*/run.json"):
        result = json.loads(file.read_text())["result"]
        if result["test_class_accuracy"]:
            edit_json(file, result=result | {"test_class_accuracy": [0.5, 0.6, None]})
    check(ledger, tmp_path / "out")


def test_maps_that_are_no_numbers(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    write(ledger, {"cnn": [0.5, 0.52, 0.53], "stn_affine": [0.6, 0.61, 0.62]})
    for file in ledger.glob("runs/*/maps.safetensors"):
        arrays = safetensors.numpy.load_file(file)
        arrays["theta"][:, 0] = np.inf
        arrays["theta"][:, 1] = 0
        safetensors.numpy.save_file(arrays, file)
    check(ledger, tmp_path / "out")
