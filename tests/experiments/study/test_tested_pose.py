"""A pose of the test part alone: what is refused, whose keys change, what a run and a study of it leave."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.numpy
import yaml

from experiments.study.arms import check_arms, make_run_config
from experiments.study.study import load_study
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import main
from experiments.terminal.commands.plan import changes
from ledger.agreement import disagreements
from ledger.audit import audit
from ledger.config import Stage, run_key
from ledger.ledger import Ledger
from tests.support.tiny_study import STUDY, TINY, HereAndNow, plan_of, sweep_here, write_sweep
from tests.support.trained_runs import train_on_sprites

SEARCH = {"trials": 1, "space": {"optim.lr": {"distribution": "log_uniform_values", "min": 0.02, "max": 0.5}}}
TOLD = {"canonical": {"model.supervision": {"values": [0, 1]}}}
VARIANTS = [{"variant": "cnn", "baseline": "cnn"}, {"variant": "oracle_unwarp", "baseline": "cnn"}]


def small(test_pose: Any = "R", variant: str = "cnn", **changes: Any) -> dict[str, Any]:
    return {"test_pose": test_pose, "variants": [{"variant": variant, "baseline": variant}], "search": SEARCH} | changes


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (small("RST"), "test_pose: 'RST' is unknown; did you mean 'RTS'?"),
        (small("R:max_dge=3"), "test_pose.max_dge: R has no such hyper-parameter; did you mean 'max_deg'?"),
        (small("R:max_deg=300"), "test_pose.max_deg: 300.0 is not above 0 and up to 180"),
        (small(3), "test_pose: 3 is not of the form POSE or POSE:key=value"),
        (small("upright"), "test_pose: 'upright' moves no image; leave test_pose out"),
        (small("R:fresh=true"), "test_pose: 'R:fresh=true': fresh is for images that are trained on; leave it out"),
        (
            small(poses=["upright", "RTS"]),
            "test_pose: 'R' goes with upright training images, and these have the pose 'RTS'",
        ),
        (small("TC"), "test_pose: 'TC' makes images of 60 px, and networks are trained on 32 px"),
        (
            small("R:canvas_px=16"),
            "test_pose: 'R:canvas_px=16' has a canvas of 16 px, too small for images of 32 px",
        ),
        (
            small(variant="cnn+posed"),
            "test_pose: cnn+posed draws the poses of training images anew, and these are all upright; leave it out",
        ),
        (
            small(variant="stn_supervised"),
            "test_pose: stn_supervised is told the poses of training images, and these are all upright; leave it out",
        ),
        (
            small(variant="canonical:supervision=1"),
            "test_pose: canonical:supervision=1 is told the poses of training images, and these are all upright; "
            "leave it out",
        ),
        (
            small(variant="canonical", search=SEARCH | {"extras": TOLD}),
            "test_pose: canonical is told the poses of training images, and these are all upright; leave it out",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_line_at_plan_time(
    tmp_path: Path, changes: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path, **changes)
    assert main(["plan", "--sweep", str(sweep), "--budget", "smoke", "--runs", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == f"error: {sweep}: {line}\n"


def test_a_budget_may_have_its_own(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, **small("R", budgets={"smoke": {"test_pose": "R:max_deg=30:corners=disc"}}))
    assert [load_study(sweep, budget).test_pose for budget in ("cpu", "smoke")] == ["R", "R:max_deg=30:corners=disc"]
    assert check_arms(load_study(sweep, "smoke"))[0].test_pose == "R:max_deg=30"


def test_it_can_be_taken_away(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, **small("R", budgets={"smoke": {"test_pose": None}}))
    assert load_study(sweep, "smoke").test_pose == ""
    assert load_study(sweep, "cpu", given=["test_pose="]).test_pose == ""


def test_final_runs_have_it_and_trials_are_those_of_a_study_without(tmp_path: Path) -> None:
    made = {}
    for test_pose in ({}, {"test_pose": "R:max_deg=90:corners=disc"}):
        study = load_study(write_sweep(tmp_path, variants=VARIANTS, search=SEARCH, **test_pose), "smoke")
        arm = check_arms(study)[1]
        for stage in get_args(Stage):
            run = make_run_config(arm, study.protocol, arm.defaults, stage=stage, seed=1, prune_below=())
            made[stage, bool(test_pose)] = run, run_key(run, "a" * 64)
    assert made["trial", True] == made["trial", False]
    for stage in ("final", "rung"):
        assert made[stage, True][0] == replace(made[stage, False][0], test_pose="R")
        assert made[stage, True][1] != made[stage, False][1]


@pytest.fixture(scope="module")
def runs(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, dict[str, Any]]]:
    """By the pose of the test part, the key of a run and what its JSON and arrays hold."""
    ledger, found = Ledger(tmp_path_factory.mktemp("runs")), {}
    for test_pose in ("", "R:max_deg=180"):
        key = train_on_sprites(ledger, cache, "oracle_unwarp", test_pose=test_pose)
        files = {file.name: file.read_bytes() for file in ledger.folder(key).iterdir()}
        values = {name: json.loads(content) for name, content in files.items() if name.endswith(".json")}
        values |= {name: safetensors.numpy.load(files[name]) for name in files if name.endswith(".safetensors")}
        found[test_pose] = key, values
        assert audit(ledger.root).findings == []
    return found


def test_the_test_part_alone_is_moved_and_both_scores_are_kept(runs: dict[str, Any]) -> None:
    (_, still), (_, moved) = runs[""], runs["R:max_deg=180"]
    before, after = still["run.json"], moved["run.json"]
    assert "test_pose" not in before["config"] and "test_upright_accuracy" not in before["result"]
    assert after["config"] == before["config"] | {"test_pose": "R:max_deg=180"}
    assert list(after["config"])[3:5] == ["pose", "test_pose"]
    # The same network, asked about the same images as they are, and about others
    assert moved["history.json"] == still["history.json"]
    assert after["result"]["test_upright_accuracy"] == before["result"]["test_accuracy"]
    assert after["result"]["test_loss"] != before["result"]["test_loss"]
    asked, asked_both = still["predictions.safetensors"], moved["predictions.safetensors"]
    assert (asked_both["upright_predicted"] == asked["predicted"]).all()
    assert (asked_both["label"] == asked["label"]).all()
    # Their true poses are those that they are tested in
    assert abs(moved["maps.safetensors"]["true_theta"] - still["maps.safetensors"]["true_theta"]).max() > 0.5


@pytest.mark.parametrize("name", ["score", "no score", "no predictions"])
def test_an_upright_score_that_its_predictions_do_not_have_is_found(runs: dict[str, Any], name: str) -> None:
    key, values = runs["R:max_deg=180"]
    values = copy.deepcopy(values)
    assert list(disagreements(key, values)) == []
    match name:
        case "score":
            values["run.json"]["result"]["test_upright_accuracy"] += 0.5
        case "no score":
            del values["run.json"]["result"]["test_upright_accuracy"]
        case _:
            del values["predictions.safetensors"]["upright_predicted"]
    ((file, what),) = disagreements(key, values)
    assert file == "predictions.safetensors" and "upright" in what


def test_a_plan_says_that_runs_of_another_one_do_not_count(tmp_path: Path, cache: Path) -> None:
    one = small("R", final_seeds=1, protocol=TINY["protocol"] | {"epochs": 1})
    ledger = sweep_here(tmp_path, HereAndNow(), **one).ledger
    assert ledger.read_study(STUDY)["test_pose"] == {"name": "R", "words": "turned images"}
    for other, said in (({"test_pose": "P"}, "P"), ({}, "none")):
        changed = {name: value for name, value in one.items() if name != "test_pose"} | other
        under_way = Sweep(plan_of(tmp_path, **changed), ledger, store=False)
        under_way.replay()
        (note,) = changes(under_way)
        assert note.startswith(f"1 finished run of this study will not count in it any more (test_pose: R -> {said}).")


def test_a_run_by_itself_has_the_study_s_and_is_refused_alike(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path, **small("R"))
    options = ["--sweep", str(sweep), "--budget", "smoke", "--runs", str(tmp_path / "runs"), "--variant", "cnn"]
    with pytest.raises(SystemExit, match="0"):
        main(["run", *options, "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["test_pose"] == "R"
    assert main(["run", *options, "--variant", "stn_supervised", "--stage", "final"]) == 2
    assert "stn_supervised is told the poses of training images" in capsys.readouterr().err
    assert main(["run", *options, "--pose", "RTS", "--stage", "final"]) == 2
    assert capsys.readouterr().err == (
        "error: test_pose: 'R' goes with upright training images, and these have the pose 'RTS'\n"
    )
