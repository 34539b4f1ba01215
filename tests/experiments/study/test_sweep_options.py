"""Options in the names of variants and poses: one spelling, one key, one place in the tables, and refused in time."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.terminal.cli import main
from ledger.config import Optim
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.support.command_line import contents, stamps
from tests.support.tiny_study import TINY, HereAndNow, plan_of, sweep_here, write_sweep

OPTIONS = "stn_affine:padding=border:start_sd=0.02+rotate:max_deg=30"
EXTRAS = {
    "stn_affine": {
        "model.start_sd": {"values": [0, 0.1]},
        "model.anti_alias": {"values": [True, False]},
        "model.localisation": {"values": ["lenet", "deep"]},
    },
    "rotate": {"policy.max_deg": {"min": 5, "max": 45}},
}


def variants(*names: str) -> list[dict[str, str]]:
    return [{"variant": name, "baseline": names[0]} for name in names]


def search(**extras: Any) -> dict[str, Any]:
    return TINY["search"] | {"trials": 3, "wave_size": 3, "extras": extras}


@pytest.fixture
def options_study(cache: Path) -> dict[str, Any]:
    """What differs from the tiny study: a variant with options beside its baseline, under a pose with options."""
    return {
        "variants": variants("cnn", OPTIONS),
        "poses": ["R:max_deg=30:corners=zeros"],
        "search": search(**EXTRAS),
        "final_seeds": 1,
        "protocol": TINY["protocol"] | {"epochs": 1},
    }


@pytest.mark.long
def test_a_variant_with_options_from_the_sweep_file_to_the_table(options_study, here, capsys):
    under_way = sweep_here(here, HereAndNow(), **options_study)
    ledger, (plain, arm) = under_way.ledger, under_way.arms
    assert (arm.plan.pose, arm.plan.variant) == ("R:max_deg=30:corners=zeros", OPTIONS)
    records = [ledger.read(key) for key in (*arm.trials, *arm.finals)]
    assert [record["status"] for record in records] == ["completed"] * 4
    for record in records:
        config = record["config"]
        assert (config["variant"], config["pose"]) == (OPTIONS, "R:max_deg=30:corners=zeros")
        # What the name fixes is not searched, though the sweep file has a range for it.
        assert "start_sd" not in config["model"] and config["policy"] == {}
        assert type(config["model"]["anti_alias"]) is bool
        assert config["model"]["localisation"] in ("lenet", "deep")
        assert record["result"]["transformer"]["pose"]["angle_r2"] is not None
    assert len({record["config"]["optim"]["lr"] for record in records[:3]}) == 3
    assert all(ledger.read(key)["result"]["transformer"] is None for key in plain.trials)

    assert main(["tables", "--runs", str(here / "runs")]) == 0
    text = (here / "reports/tiny-sprites-smoke/ablation.md").read_text()
    assert f"| {OPTIONS} | cnn |" in text
    assert "R:max_deg=30:corners=zeros" in text
    capsys.readouterr()


def test_defaults_that_are_written_out_make_the_same_keys(options_study: dict[str, Any], tmp_path: Path) -> None:
    wordy = "stn_affine:start_sd=0.020:place=input:padding=border@cnn:width=1+rotate:max_deg=30.0"
    pose = "R:corners=zeros:canvas_px=0:max_deg=30"
    plans = [
        plan_of(tmp_path, **options_study),
        plan_of(tmp_path, **options_study | {"variants": variants("cnn+none", wordy), "poses": [pose]}),
    ]
    assert plans[0].arms == plans[1].arms
    assert plans[1].arms[1].baseline == "cnn"


def test_an_option_at_its_default_is_not_searched_and_makes_the_key_of_that_value(tmp_path: Path, cache: Path) -> None:
    fixed, plain = (
        plan_of(tmp_path, variants=variants("cnn", name), search=search(**extras)).arms[1]
        for name, extras in (("stn_affine:start_sd=0", {"stn_affine": EXTRAS["stn_affine"]}), ("stn_affine", {}))
    )
    assert fixed.variant == plain.variant == "stn_affine"
    assert fixed.defaults == plain.defaults
    assert [each.name for each in fixed.parameters] == ["optim.lr", "model.anti_alias", "model.localisation"]


@pytest.mark.parametrize(
    ("variant", "owner", "option", "values"),
    [
        ("stn_rotation", "stn_rotation", "model.bins", [12, 36]),
        ("cnn+rotate", "rotate", "policy.fill", ["mean", "black"]),
    ],
)
def test_what_only_a_name_sets_is_not_searched(
    tmp_path: Path, cache: Path, variant: str, owner: str, option: str, values: list[Any]
) -> None:
    changes: dict[str, Any] = {"variants": variants("cnn", variant)}
    changes["search"] = search(**{owner: {option: {"values": values}}})
    with pytest.raises(UserError, match=rf"search: {re.escape(option)}: only a variant's name sets it$"):
        plan_of(tmp_path, **changes)


def test_searched_values_have_the_type_of_their_option(tmp_path: Path, cache: Path) -> None:
    """As a single run has them: 0 and 0.0 would make different keys."""
    arm = plan_of(
        tmp_path, variants=variants("cnn", "stn_affine"), search=search(stn_affine=EXTRAS["stn_affine"])
    ).arms[1]
    choices = {each.name: each.choices for each in arm.parameters}
    assert [type(value) for value in choices["model.start_sd"]] == [float, float]
    assert choices["model.anti_alias"] == (True, False)


def stn(**model: Any) -> dict[str, Any]:
    """What is tuned of the model, beside the rate."""
    return search(stn_affine={f"model.{name}": written for name, written in model.items()})


def test_values_may_go_with_others_than_the_defaults(tmp_path: Path, cache: Path) -> None:
    """Stages are searched where the transformer stands in a feature map, though by default it does not."""
    changes = stn(place={"value": "feature"}, stage={"values": [1, 2]})
    arm = plan_of(tmp_path, search=changes).arms[1]
    assert {each.name: each.choices for each in arm.parameters if each.choices} == {
        "model.place": ("feature",),
        "model.stage": (1, 2),
    }


# What of the study is different, and the error after the file's name.
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "option": (
        {"variants": variants("cnn", "stn_affine:paddding=border")},
        "sweep.yaml: variant: 'stn_affine:paddding=border': paddding: stn_affine has no such hyper-parameter; "
        "did you mean 'padding'?",
    ),
    "value": (
        {"variants": variants("cnn", "stn_affine:padding=boarder")},
        "sweep.yaml: variant: 'stn_affine:padding=boarder': padding: 'boarder' is not one of zeros, border, "
        "reflection; did you mean 'border'?",
    ),
    "number": (
        {"variants": variants("cnn", "stn_affine:steps=1.5")},
        "sweep.yaml: variant: 'stn_affine:steps=1.5': steps: '1.5' is not a whole number",
    ),
    "form": (
        {"variants": variants("cnn", "stn_affine:steps")},
        "sweep.yaml: variants[1].variant: 'stn_affine:steps' is not of the form MODEL, MODEL+POLICY or .+",
    ),
    "policy's value": (
        {"variants": variants("cnn", "cnn+affine:max_scale=0.5")},
        "sweep.yaml: policy.max_scale: 0.5 is not between 1 and 10",
    ),
    "backbone's option": (
        {"variants": variants("cnn", "cnn@lenet:depth=2")},
        "sweep.yaml: variant: 'cnn@lenet:depth=2': depth: backbone lenet has no such option; it has width",
    ),
    "spline in steps": (
        {"variants": variants("cnn", "stn_tps:steps=2")},
        "sweep.yaml: model.steps: maps of this transformation do not compose; take steps=1",
    ),
    "consistency of a shift": (
        {"variants": variants("cnn", "stn_translation:consistency=1")},
        "sweep.yaml: model.consistency: images are turned for it, and a transformer of translation cannot turn",
    ),
    "no such stage": (
        {"variants": variants("cnn", "stn_affine:place=feature:stage=9")},
        "stn_affine:place=feature:stage=9 on images of 32 px: stage: the backbone has 3 stages, 9 is none of them",
    ),
    "spline in a map of 1 px": (
        {
            "variants": variants("cnn", "stn_tps:place=feature:stage=2@lenet"),
            "protocol": TINY["protocol"] | {"image_px": 16},
        },
        "stn_tps:place=feature:stage=2@lenet on images of 16 px: a localisation network needs a feature map of 4 px or "
        "more, got 1",
    ),
    "odd size": (
        {"variants": variants("cnn", "cnn@p4cnn"), "protocol": TINY["protocol"] | {"image_px": 33}},
        "cnn@p4cnn on images of 33 px: backbone p4cnn needs images of a multiple of 8 px, got 33",
    ),
    "variant twice": (
        {"variants": variants("cnn", "stn_affine", "stn_affine:padding=zeros")},
        "sweep.yaml: 'stn_affine' under pose 'upright' is there twice, spelt differently",
    ),
    "pose twice": (
        {"poses": ["R", "R:max_deg=90"]},
        "sweep.yaml: 'cnn' under pose 'R' is there twice, spelt differently",
    ),
    "pose's option": (
        {"poses": ["R:max_degrees=30"]},
        "sweep.yaml: pose.max_degrees: R has no such hyper-parameter; did you mean 'max_deg'?",
    ),
    "pose's number": ({"poses": ["R:max_deg=wide"]}, "sweep.yaml: pose.max_deg: 'wide' is not a number"),
    "pose's range": ({"poses": ["R:max_deg=270"]}, "sweep.yaml: pose.max_deg: 270.0 is not above 0 and up to 180"),
    "pose's corners": (
        {"poses": ["R:corners=black"]},
        "sweep.yaml: pose.corners: 'black' is not one of disc, zeros, reflect; known: disc, reflect, zeros",
    ),
    "small canvas": (
        {"poses": ["RTS:canvas_px=20"]},
        "pose: 'RTS:canvas_px=20' has a canvas of 20 px, too small for images of 32 px",
    ),
    "searched word": (
        {"search": stn(padding={"values": ["zeros", "boarder"]})},
        "sweep.yaml: search: model.padding: 'boarder' is not one of zeros, border, reflection; did you mean 'border'?",
    ),
    "searched fraction": (
        {"search": stn(steps={"min": 1.0, "max": 3.0})},
        "sweep.yaml: search: model.steps: takes whole numbers only; write int_uniform or values",
    ),
    "searched stage": (
        {"search": stn(place={"value": "feature"}, stage={"min": 1, "max": 9})},
        "sweep.yaml: search: stn_affine+affine on images of 32 px: stage: the backbone has 3 stages, 9 is none of them",
    ),
    "searched bounds of a word": (
        {"search": stn(padding={"min": 0, "max": 1})},
        "sweep.yaml: search: model.padding: 0 is not one of zeros, border, reflection; known: border, reflection, "
        "zeros",
    ),
    "searched apart": (
        {"search": stn(stage={"values": [1, 2]})},
        "sweep.yaml: search: model.stage: 2 goes with place=feature or place=shared",
    ),
    "searched together": (
        {"search": stn(place={"values": ["input", "feature"]}, steps={"min": 1, "max": 3})},
        "sweep.yaml: search: model.steps: 3 does not go with place=feature",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_go_together_is_refused_before_anything_trains(case, here, capsys):
    changes, expected = REFUSALS[case]
    write_sweep(here, **{"search": search()} | changes)
    before = contents(here), stamps(here)
    assert main(["sweep", "--budget=smoke"]) == 2
    captured = capsys.readouterr()
    message = captured.err.removeprefix("error: ").removesuffix("\n")
    assert message == expected or (expected.endswith(".+") and re.fullmatch(re.escape(expected[:-2]) + ".+", message))
    assert (contents(here), stamps(here)) == before


def test_options_that_do_not_go_together_are_refused_for_a_single_run_too(here, capsys):
    write_sweep(here)
    for arguments, expected in (
        (["--variant=stn_tps:steps=2"], "model.steps: maps of this transformation do not compose; take steps=1"),
        (
            ["--variant=stn_affine", "--model.place=feature", "--model.stage=9"],
            "stn_affine on images of 32 px: stage: the backbone has 3 stages, 9 is none of them",
        ),
        (
            ["--variant=stn_affine:padding=border", "--model.padding=zeros"],
            "model.padding: zeros contradicts the variant's name, which has border",
        ),
        (["--pose=R:max_deg=0"], "pose.max_deg: 0.0 is not above 0 and up to 180"),
    ):
        assert main(["run", "--task=sprites", *arguments]) == 2
        assert capsys.readouterr().err == f"error: {expected}\n"
    assert [path.name for path in here.iterdir()] == ["sweep.yaml"]


@pytest.mark.long
def test_a_single_run_is_the_run_of_the_study_however_it_is_spelt(tmp_path: Path, here: Path) -> None:
    changes = {"protocol": TINY["protocol"] | {"epochs": 1}, "poses": ["R:max_deg=30"]}
    under_way = sweep_here(tmp_path, HereAndNow(), variants=variants("stn_affine:padding=border"), **changes)
    (arm,) = under_way.arms
    run = Ledger(tmp_path / "runs").read(arm.trials[0])["config"]
    assert run["optim"] == dataclasses.asdict(Optim())
    texts = {name: str(value).lower() for name, value in run["protocol"].items()}
    protocol = [f"--protocol.{name}={text}" for name, text in texts.items()]
    spelt = ["--variant=stn_affine:size=1:padding=border+none", "--pose=R:max_deg=30.0:corners=disc"]
    assert main(["run", "--task=sprites", *spelt, "--seed=0", "--stage=trial", *protocol]) == 0
    assert [folder.name for folder in (here / "runs/runs").iterdir()] == [arm.trials[0]]


def test_an_unknown_pose_is_an_error_of_the_plan(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"pose: 'Q' is unknown; known: "):
        plan_of(tmp_path, poses=["Q:max_deg=3"])
