"""The list of scores is what runs hold."""

import json
from pathlib import Path
from typing import Any

from ledger.scores import COSTS, RESULT, TRANSFORMER, TRANSFORMER_POSE, robustness_scores
from tests.support.project import ROOT

RUNS = sorted((ROOT / "tests/golden/format-5/runs").iterdir())


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def test_runs_have_every_score_that_is_listed_and_no_other() -> None:
    results = [read(run, "run.json")["result"] for run in RUNS]
    transformers = [result["transformer"] for result in results if result["transformer"]]
    poses = [transformer["pose"] for transformer in transformers if transformer["pose"]]
    assert transformers and poses
    # Later ones were added without another format; a new run has them: tests/experiments/runs/test_costs.py.
    listed = {score.name for score in RESULT if not score.is_later}
    assert {frozenset(result) for result in results} == {frozenset({*listed, "transformer"})}
    names = {*(score.name for score in TRANSFORMER), "verdict", "pose"}
    assert {frozenset(transformer) for transformer in transformers} == {frozenset(names)}
    assert {frozenset(pose) for pose in poses} == {frozenset(score.name for score in TRANSFORMER_POSE)}
    assert {score.name for score in COSTS} <= read(RUNS[0], "cost.json").keys()


def test_what_robustness_comes_to_is_listed() -> None:
    run = next(run for run in RUNS if (run / "robustness.json").exists())
    found, result = robustness_scores(read(run, "robustness.json")), read(run, "run.json")["result"]
    assert found == {score.name: result[score.name] for score in RESULT if score.file == "robustness.json"}
