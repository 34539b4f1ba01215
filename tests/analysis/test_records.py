"""The ledger read back: every run that a study lists, and every way in which it cannot be read."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.ablation import Row
from analysis.evaluations import read_histories
from analysis.findings import find
from analysis.records import read_study
from ledger.errors import UserError
from tests.support.built_tables import built
from tests.support.synthetic_ledger import (
    STUDY,
    TASK,
    edit_json,
    key_of,
    transformer_record,
    write_arm,
    write_study,
)


def row_of(ledger: Path, variant: str) -> Row:
    return next(row for row in find(ledger, STUDY).rows if row.variant == variant)


def test_one_row_a_listed_run(ledger: Path) -> None:
    study = read_study(ledger, STUDY)
    runs = study.runs
    assert len(runs) == 4 * 5 + 3 * 3 + 4
    assert (study.task_label, study.num_classes, study.epochs, study.budget) == ("Tiny (JPEG)", 2, 6, "cpu")
    finals = runs[(runs["variant"] == "stn_affine") & (runs["stage"] == "final")]
    assert finals["status"].tolist() == ["completed", "diverged", "completed", "missing", "completed"]
    assert finals["seed"].dropna().tolist() == [11, 12, 13, 15]
    assert finals["test_accuracy"].dropna().tolist() == [0.50, 0.55, 0.50]
    assert finals["model.loc_lr_factor"].dropna().unique().tolist() == [0.25]
    assert finals["train_seconds"].count() == 4
    assert runs["test_accuracy"].dtype == "float64"


def test_histories(ledger: Path) -> None:
    study = read_study(ledger, STUDY)
    frame = read_histories(study, [key_of("upright", "cnn", 11), key_of("upright", "stn_affine", 12), "absent"])
    assert frame.groupby("key", sort=False).size().tolist() == [6, 3]
    assert frame["epoch"].tolist() == [1, 2, 3, 4, 5, 6, 1, 2, 3]


def test_scores_that_are_null_altogether(ledger: Path) -> None:
    edit_json(ledger / "runs" / key_of("upright", "cnn", 12) / "run.json", result=None, status="failed")
    assert row_of(ledger, "cnn").test_accuracy.num == 4


def test_a_completed_run_without_a_test_score_is_not_averaged(ledger: Path) -> None:
    file = ledger / "runs" / key_of("upright", "cnn", 12) / "run.json"
    edit_json(file, result=json.loads(file.read_text())["result"] | {"test_accuracy": None})
    assert row_of(ledger, "cnn").test_accuracy.num == 4
    assert row_of(ledger, "cnn").final_statuses == {"completed": 5}


def test_transformers(tmp_path: Path) -> None:
    still = transformer_record(verdict="idle", zoom=None) | {"pose": None}
    arms = [write_arm(tmp_path, "stn", "stn", [0.5, 0.5, 0.5], transformers=[transformer_record(), still, None])]
    write_study(tmp_path, arms)
    finals = read_study(tmp_path, STUDY).runs.query("stage == 'final'")
    assert finals["transformer.verdict"].dropna().tolist() == ["working", "idle"]
    assert finals["transformer.zoom"].tolist()[:1] == finals["transformer.zoom"].dropna().tolist() == [0.9]
    assert finals["transformer.num_images"].dropna().tolist() == [1000, 1000]
    assert finals["transformer.angle_r2"].dropna().tolist() == [0.8]
    assert finals["transformer.shift_error_px"].dropna().tolist() == [2]
    assert finals["transformer.log_scale_r2"].isna().all()
    assert finals["transformer.log_scale_r2"].dtype == "float64"


def test_a_ledger_of_format_1_is_read(ledger: Path) -> None:
    expected = built("ablation", find(ledger, STUDY))
    edit_json(ledger / "studies" / STUDY / "study.json", format=1)
    for file in ledger.glob("runs/*/run.json"):
        run = json.loads(file.read_text())
        del run["result"]["transformer"]
        edit_json(file, format=1, result=run["result"])
    assert built("ablation", find(ledger, STUDY)).sections[0].table.rows == expected.sections[0].table.rows
    runs = read_study(ledger, STUDY).runs
    assert runs["transformer.verdict"].isna().all()
    assert runs["transformer.angle_r2"].isna().all()


def test_a_ledger_of_format_2_is_read(ledger: Path) -> None:
    expected = built("ablation", find(ledger, STUDY))
    edit_json(ledger / "studies" / STUDY / "study.json", format=2)
    for file in ledger.glob("runs/*/run.json"):
        run = json.loads(file.read_text())
        for name in ("test_ece", "rotation_accuracy", "corruption_accuracy", "worst_of_grid_accuracy"):
            del run["result"][name]
        edit_json(file, format=2, result=run["result"])
    study = read_study(ledger, STUDY)
    assert built("ablation", find(ledger, STUDY)).sections[0].table.rows == expected.sections[0].table.rows
    assert study.runs["test_ece"].isna().all() and study.runs["test_accuracy"].notna().any()
    assert (study.sampler, study.source, study.arms[0].space) == (None, {}, {})
    assert (study.claims.alpha, study.claims.margin, study.claims.declared) == (0.05, 0.01, False)
    pairs = [(claim.variant, claim.baseline, claim.interaction) for claim in study.claims.family]
    assert pairs == [
        ("cnn+affine", "cnn", False),
        ("stn_affine", "cnn", False),
        ("stn_affine+affine", "cnn+affine", False),
        ("late", "stn_affine", False),
    ]


CLAIM = {"pose": "upright", "variant": "stn_affine", "baseline": "cnn", "interaction": False}
CLAIMS = {"alpha": 0.1, "margin": 0.02, "declared": True, "family": [CLAIM, CLAIM | {"interaction": True}]}


def test_what_a_study_declares(ledger: Path) -> None:
    edit_json(
        ledger / "studies" / STUDY / "study.json",
        claims=CLAIMS,
        sampler="random",
        source={"file": "a.yaml", "data": True},
    )
    study = read_study(ledger, STUDY)
    assert (study.claims.alpha, study.claims.margin, study.claims.declared) == (0.1, 0.02, True)
    assert [claim.interaction for claim in study.claims.family] == [False, True]
    assert (study.sampler, study.source["data"], study.protocol["epochs"]) == ("random", True, 6)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (3, "'claims' is 3, expected an object"),
        ({"alpha": 0.05, "margin": 0.01, "declared": True}, "'family' is missing"),
        (CLAIMS | {"alpha": "small"}, "'alpha' is 'small', expected a number"),
        (CLAIMS | {"declared": None}, "'declared' is None, expected bool"),
        (CLAIMS | {"family": [CLAIM | {"interaction": "yes"}]}, "'interaction' is 'yes', expected bool"),
        (
            CLAIMS | {"family": [CLAIM | {"variant": "stm"}]},
            "a claim is about 'stm', which is not an arm of pose 'upright'",
        ),
        (
            CLAIMS | {"family": [CLAIM | {"pose": "R"}]},
            "a claim is about 'stn_affine', which is not an arm of pose 'R'",
        ),
        (CLAIMS | {"family": ["stn_affine"]}, "'pose' is missing"),
    ],
)
def test_claims_that_make_no_sense(ledger: Path, claims: Any, message: str) -> None:
    edit_json(ledger / "studies" / STUDY / "study.json", claims=claims)
    with pytest.raises(UserError, match=f"study.json: {message}") as error:
        read_study(ledger, STUDY)
    assert "\n" not in str(error.value)


def test_hyper_parameters_may_be_text_and_booleans(tmp_path: Path) -> None:
    models = [{"padding": "border", "loc": 0.5, "multi": True}, {"padding": "zeros", "multi": False, "loc": "deep"}, {}]
    arms = [write_arm(tmp_path, f"m{i}", "m0", [0.5], trial_statuses=(), model=model) for i, model in enumerate(models)]
    write_study(tmp_path, arms)
    findings = find(tmp_path, STUDY)
    expected = {"model.padding": "border", "model.loc": 0.5, "model.multi": True}
    assert {k: v for k, v in findings.rows[0].hyper_parameters.items() if k.startswith("model.")} == expected
    table = built("hyper_parameters", findings).sections[0].table
    assert table.columns[3:6] == ("model.loc", "model.multi", "model.padding")
    cells = [row[3:6] for row in table.rows]
    assert cells == [("0.5", "true", "border"), ("deep", "false", "zeros"), ("—", "—", "—")]


def test_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: there is no ledger here"):
        read_study(tmp_path / "nowhere", STUDY)


def test_ledger_without_studies(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown study 'x'; none are known"):
        read_study(tmp_path, "x")


@pytest.mark.parametrize("name", ["tiny-gpu", "../studies/tiny-cpu", ""])
def test_unknown_study(ledger: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"unknown study .*tiny-cpu"):
        read_study(ledger, name)


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("study", {"format": 6}, "study.json: format 6 is newer than this version reads .5."),
        ("run", {"format": 6}, "run.json: format 6 is newer than this version reads .5."),
        ("run", {"key": "other"}, "run.json: holds the run 'other'"),
        ("run", {"config": {"stage": "trial"}}, "run.json: is a trial run"),
        ("run", {"config": 3}, "run.json: 'config' is 3, expected an object or null"),
        ("run", {"status": None}, "run.json: 'status' is None, expected text"),
        ("run", {"result": {"test_accuracy": "high"}}, "run.json: 'test_accuracy' is 'high', expected a number"),
        ("run", {"result": {"transformer": 3}}, "run.json: 'transformer' is 3, expected an object or null"),
        ("run", {"result": {"transformer": {"verdict": 1}}}, "run.json: 'verdict' is 1, expected text or null"),
        ("run", {"result": {"transformer": {"pose": [1]}}}, "run.json: 'pose' is .1., expected an object or null"),
        ("run", {"result": {"transformer": {"pose": {"angle_r2": "x"}}}}, "run.json: 'angle_r2' is 'x', expected a"),
        ("study", {"arms": []}, "study.json: 'arms' is empty"),
        ("study", {"arms": [3]}, "study.json: 'arms' is 3, expected an object"),
        (
            "study",
            {"protocol_hash": "ffffffff"},
            "study.json: its protocol is ffffffff, but that of run .* 1234abcd",
        ),
    ],
)
def test_a_file_that_says_something_else(ledger: Path, file: str, edit: dict[str, Any], message: str) -> None:
    run_file = ledger / "runs" / key_of("upright", "cnn", 12) / "run.json"
    edit_json({"run": run_file, "study": ledger / "studies" / STUDY / "study.json"}[file], **edit)
    with pytest.raises(UserError, match=message) as error:
        read_study(ledger, STUDY)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["run.json", "cost.json", "history.json"])
@pytest.mark.parametrize("text", ["", '{"a": ', "\xff"])
def test_a_file_that_is_not_json(ledger: Path, name: str, text: str) -> None:
    key = key_of("upright", "cnn", 12)
    (ledger / "runs" / key / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"{key}/{name}: is not JSON") as error:
        read_histories(read_study(ledger, STUDY), [key])
    assert "\n" not in str(error.value)


def test_two_protocols_do_not_mix(ledger: Path) -> None:
    key = key_of("upright", "stn_affine", 13)
    edit_json(ledger / "runs" / key / "run.json", protocol_hash="99999999")
    first = key_of("upright", "cnn", "trial", 0)
    message = f"two protocols do not mix in one table: 1234abcd .run {first}. and 99999999 .run {key}."
    with pytest.raises(UserError, match=message):
        read_study(ledger, STUDY)


def test_two_tasks_do_not_mix(ledger: Path) -> None:
    key = key_of("upright", "cnn+affine", 15)
    edit_json(ledger / "runs" / key / "run.json", task=TASK | {"content_hash": "dd" * 32})
    with pytest.raises(UserError, match=f"two tasks do not mix .* {'dd' * 32} .run {key}."):
        read_study(ledger, STUDY)


def test_two_runs_of_one_seed(ledger: Path) -> None:
    file = ledger / "runs" / key_of("upright", "cnn", 12) / "run.json"
    edit_json(file, config=json.loads(file.read_text())["config"] | {"seed": 11})
    with pytest.raises(UserError, match="of 'cnn' have the same seed 11"):
        read_study(ledger, STUDY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "cnm"}, "baseline 'cnm' of 'stn' is not an arm of pose 'upright'; did you mean 'cnn'"),
        ({"variant": "cnn"}, "arm 'cnn' at pose 'upright' is listed twice"),
        ({"winner": "k"}, "winner 'k' of 'stn' is none of its trials"),
        ({"finals": [1]}, "'finals' is 1, expected a run's key"),
        ({"trials": None}, "'trials' is None, expected a list"),
    ],
)
def test_an_arm_that_makes_no_sense(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arms = [write_arm(tmp_path, variant, "cnn", [0.5]) for variant in ("cnn", "stn")]
    arms[1] |= change
    write_study(tmp_path, arms)
    with pytest.raises(UserError, match=message):
        read_study(tmp_path, STUDY)
