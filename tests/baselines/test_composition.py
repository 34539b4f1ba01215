"""Policies one after the other: what is shown, what is drawn, how they are named, and how they are tuned."""

import re
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from analysis.earlier_names import model_said
from analysis.questions import question_of
from baselines.composition import Composition
from baselines.policies import POLICIES, Policy
from experiments.images.draws import uniform
from experiments.networks.catalogue import catalogue
from experiments.networks.variants import build_policy, hyperparameters, parse_variant
from experiments.runs.training import augment, draws
from experiments.study.arms import check_arms, make_run_config
from experiments.study.study import load_study
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.study import Claim
from tests.support.command_line import run
from tests.support.tiny_study import TINY, write_sweep

NAMES = [name for name in POLICIES if name != "none"]
orders = st.permutations([name for name in NAMES if name != "posed"]).flatmap(
    lambda names: st.integers(2, len(names)).map(lambda num: names[:num])
)
"""Two policies or more, in any order."""


def policy_of(*names: str) -> Policy:
    return build_policy(parse_variant("+".join(("cnn", *names))), {})


def own_draws(composed: Policy, num: int = 6, epoch: int = 2) -> dict[str, Tensor]:
    """What each policy of a composition has of the numbers that are drawn for it."""
    assert isinstance(composed, Composition)
    u_NK = draws(composed, torch.arange(num), seed=3, epoch=epoch)
    parts = u_NK.split([part.num_draws for part in composed.parts.values()], dim=1)
    return dict(zip(composed.parts, parts, strict=True))


@pytest.mark.parametrize(("one", "other"), [pair for pair in permutations(NAMES, 2) if pair[1] != "posed"])
def test_of_every_pair_the_second_is_shown_what_the_first_makes(one, other):
    composed, x_BCHW = policy_of(one, other), torch.rand(6, 3, 32, 32)
    before, shown = x_BCHW.clone(), x_BCHW
    for name, u_BK in own_draws(composed).items():
        alone = policy_of(name)
        assert torch.equal(u_BK, draws(alone, torch.arange(6), seed=3, epoch=2, purpose=f"augment {name}"))
        shown = augment(shown, alone, u_BK)
    u_BK = draws(composed, torch.arange(6), seed=3, epoch=2)
    assert u_BK.shape == (6, composed.num_draws)
    assert torch.equal(augment(x_BCHW, composed, u_BK), shown)
    assert torch.equal(x_BCHW, before)


@given(orders, st.data())
def test_draws_depend_neither_on_the_others_nor_on_their_order(names, data):
    composed = policy_of(*names)
    assert composed.num_draws == sum(POLICIES[name]().num_draws for name in names)
    others = policy_of(*data.draw(st.permutations(names[:3])), *data.draw(st.sampled_from([names[3:], []])))
    found, again = own_draws(composed), own_draws(others)
    assert list(found) == names
    assert all(torch.equal(found[name], u_BK) for name, u_BK in again.items())


def test_draws_are_independent_of_each_other():
    parts = list(own_draws(policy_of(*sorted(NAMES, key="posed".__ne__)), num=4000).values())
    u_NK = torch.cat([u_NK[:, :5] for u_NK in parts], dim=1)
    correlation = torch.corrcoef(u_NK.T) - torch.eye(u_NK.shape[1])
    assert correlation.abs().max() < 0.08


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_alone_draws_what_it_always_drew(name):
    alone = policy_of(name)
    index_N, num_kept = torch.arange(50), alone.num_draws - getattr(alone, "num_alternating", 0)
    expected_NK = uniform(index_N, alone.num_draws, seed=3, epoch=2, purpose="augment")
    assert torch.equal(draws(alone, index_N, seed=3, epoch=2)[:, :num_kept], expected_NK[:, :num_kept])


@pytest.mark.parametrize(
    "names", [("flip_crop", "affine"), ("affine", "flip_crop"), ("elastic", "flip_crop", "cutout")]
)
def test_mirroring_alternates_wherever_it_stands(names):
    composed = policy_of(*names)
    mirrored = [
        composed.draw(draws(composed, torch.arange(50), seed=0, epoch=epoch), 32)["flip_crop.mirrored"]
        for epoch in (1, 2, 3)
    ]
    assert 10 < mirrored[0].sum() < 40
    assert torch.equal(mirrored[1], ~mirrored[0])
    assert torch.equal(mirrored[2], mirrored[0])


def test_images_of_an_upright_task_are_posed_as_they_are():
    composed, x_BCHW = policy_of("posed", "affine"), torch.rand(6, 3, 32, 32)
    found = own_draws(composed)
    u_BK = torch.cat(list(found.values()), dim=1)
    assert torch.equal(augment(x_BCHW, composed, u_BK), augment(x_BCHW, policy_of("affine"), found["affine"]))


def test_draws_asks_for_poses_that_are_drawn_anew_if_one_of_them_does():
    asks: Any = SimpleNamespace(poses_anew=True)
    assert Composition({"asks": asks, "affine": policy_of("affine")}).poses_anew
    assert not Composition({"cutout": policy_of("cutout"), "affine": policy_of("affine")}).poses_anew


@given(orders)
def test_a_name_is_read_as_it_is_written(names):
    written = "+".join(["stn_affine@lenet", *names])
    variant = parse_variant(written)
    assert str(variant) == written
    assert variant.policies == names


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("cnn+flip_crop:padding_px=1+affine:max_deg=30", "cnn+flip_crop:padding_px=1+affine:max_deg=30"),
        ("cnn+flip_crop:padding_px=2.0+affine:max_deg=30.0", "cnn+flip_crop+affine:max_deg=30"),
        ("cnn@cnn+rotate:max_deg=15+affine:max_deg=15", "cnn+rotate+affine"),
    ],
)
def test_each_policy_has_its_own_options(name, spelling):
    assert str(parse_variant(name)) == spelling
    assert build_policy(parse_variant(name), {}) == build_policy(parse_variant(spelling), {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn+affine+affine", "'cnn+affine+affine': has the policy 'affine' twice"),
        ("cnn+affine:max_deg=5+affine", "'cnn+affine:max_deg=5+affine': has the policy 'affine' twice"),
        ("cnn+none+affine", "'cnn+none+affine': 'none' does not go with other policies; leave it out"),
        ("cnn+affine+none", "'cnn+affine+none': 'none' does not go with other policies; leave it out"),
        (
            "cnn+affine+posed+cutout",
            "'cnn+affine+posed+cutout': 'posed' poses an image before any other policy changes it; name it first",
        ),
        ("cnn+flip_crop+afine", "has the unknown policy 'afine'; did you mean 'affine'?"),
        ("cnn+affine+lenet", "has the unknown policy 'lenet'; it is a backbone: write cnn@lenet"),
        ("cnn+affine+", "has the unknown policy ''; known: "),
        ("cnn+flip_crop+affine:deg=2", "deg: affine has no such hyper-parameter; did you mean 'max_deg' or"),
    ],
)
def test_what_cannot_be_composed_is_refused_when_it_is_planned(name, message, tmp_path):
    sweep = sweep_of(tmp_path, (name, "cnn+affine"), {"affine": {"policy.max_deg": {"min": 5, "max": 45.5}}})
    if name.endswith("+"):  # refused by its form already
        with pytest.raises(UserError, match="MODEL"):
            load_study(sweep, "smoke")
    else:
        with pytest.raises(UserError) as caught:
            check_arms(load_study(sweep, "smoke"))
        assert str(caught.value).startswith(f"{sweep}: variant: {name!r}")
    with pytest.raises(UserError) as caught:
        parse_variant(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_catalogue_tells_of_each():
    found = catalogue("cnn+flip_crop:padding_px=1+affine")["policy"]
    assert {name: entry["given"] for name, entry in found.items()} == {
        "flip_crop": {"padding_px": 1.0},
        "affine": {},
    }


def test_those_of_several_policies_have_the_policy_s_name():
    alone, both = (hyperparameters(parse_variant(f"cnn+{name}")) for name in ("affine", "rotate+affine:max_scale=2"))
    assert all(name.count(".") == 1 for name in alone)
    kept = {name: value for name, value in alone.items() if name != "policy.max_scale"}
    assert both == {
        "policy.rotate.max_deg": 15.0,
        **{name.replace("policy.", "policy.affine."): value for name, value in kept.items()},
    }


def test_hyper_parameters_can_be_given_and_are_checked():
    variant = parse_variant("cnn+rotate+affine:max_scale=2")
    composed = build_policy(variant, {"affine.max_deg": 40, "rotate.max_deg": 5.0})
    assert isinstance(composed, Composition)
    affine, rotate = composed.parts["affine"], composed.parts["rotate"]
    assert (affine.max_deg, affine.max_scale, rotate.max_deg) == (40, 2, 5)  # type: ignore[attr-defined]
    for values, message in (
        ({"max_deg": 40}, "policy.max_deg: rotate+affine has no such hyper-parameter; did you mean"),
        ({"affine.deg": 4}, "policy.affine.deg: rotate+affine has no such hyper-parameter; did you mean"),
        ({"cutout.fill": 0}, "policy.cutout.fill: rotate+affine has no such hyper-parameter"),
        ({"affine.max_deg": 400}, "policy.affine.max_deg: 400.0 is not between 0 and 180"),
        ({"affine.max_deg": "far"}, "policy.affine.max_deg: 'far' is not a number"),
        ({"affine.max_scale": 3}, "policy.affine.max_scale: 3.0 contradicts the variant's name, which has 2.0"),
    ):
        with pytest.raises(UserError) as caught:
            build_policy(variant, values)
        assert str(caught.value).startswith(message)


def test_a_policy_s_extras_are_for_it_alone_and_composed(tmp_path):
    names = ("cnn", "cnn+affine", "cnn+flip_crop+affine", "cnn+rotate+affine", "cnn+rotate+affine:max_deg=3")
    extras = {
        "affine": {"policy.max_deg": {"min": 5, "max": 45.5}},
        "rotate": {"policy.max_deg": {"values": [10, 20]}},
    }
    study = load_study(sweep_of(tmp_path, names, extras), "smoke")
    found = {arm.variant: [each.name for each in arm.parameters[1:]] for arm in check_arms(study)}
    assert found == {
        "cnn": [],
        "cnn+affine": ["policy.max_deg"],
        "cnn+flip_crop+affine": ["policy.affine.max_deg"],
        "cnn+rotate+affine": ["policy.rotate.max_deg", "policy.affine.max_deg"],
        "cnn+rotate+affine:max_deg=3": ["policy.rotate.max_deg"],
    }
    arm = check_arms(study)[3]
    assert arm.parameters[1].choices == (10.0, 20.0)
    config = make_run_config(arm, study.protocol, arm.defaults, stage="trial", seed=0, prune_below=())
    assert (config.policy["rotate.max_deg"], config.policy["affine.max_shift"]) == (15.0, 0.1)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("policy.max_turn", "search: cnn+rotate+affine has no 'policy.affine.max_turn'; known: "),
        ("policy.max_deg", "search: policy.affine.max_deg: 400.0 is not between 0 and 180"),
        ("policy.affine.max_deg.x", "is not named optim.NAME, model.NAME or policy.NAME"),
    ],
)
def test_extras_that_it_does_not_have_or_allow_are_refused(parameter, message, tmp_path):
    sweep = sweep_of(tmp_path, ("cnn+rotate+affine",), {"affine": {parameter: {"values": [1, 400]}}})
    with pytest.raises(UserError) as caught:
        check_arms(load_study(sweep, "smoke"))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{sweep}: ")
    assert "\n" not in str(caught.value)


def sweep_of(folder: Path, names: tuple[str, ...], extras: dict[str, Any]) -> Path:
    variants = [{"variant": name, "baseline": names[0]} for name in names]
    return write_sweep(folder, variants=variants, search={**TINY["search"], "extras": extras})


@pytest.mark.parametrize(
    ("variant", "baseline", "question"),
    [
        ("cnn+flip_crop+affine", "cnn+flip_crop", "augmentation"),
        ("cnn+flip_crop:padding_px=1+affine", "cnn+flip_crop", "other"),
        ("cnn+flip_crop+affine", "cnn", "augmentation"),
        ("cnn+flip_crop", "cnn+flip_crop+affine", "other"),
        ("stn_affine+flip_crop+affine", "cnn+flip_crop+affine", "both"),
        ("stn_affine+flip_crop+affine", "cnn+flip_crop", "together"),
        ("stn_affine+flip_crop", "cnn+flip_crop+affine", "instead"),
        ("stn_affine+flip_crop+affine", "cnn+flip_crop+rotate", "other"),
    ],
)
def test_a_claim_asks_about_what_one_of_its_variants_has_more(variant: str, baseline: str, question: str) -> None:
    roles = {name: model_said(name)[0] for name in (variant, baseline)}
    assert question_of(Claim("upright", variant, baseline), roles) == question


@pytest.mark.long
def test_the_command_lines(tmp_path: Path) -> None:
    extras = {"affine": {"policy.max_deg": {"min": 5, "max": 45.5}}}
    sweep = sweep_of(tmp_path, ("cnn+flip_crop", "cnn+flip_crop:padding_px=1+affine"), extras)
    planned = run("plan", "--sweep", sweep, "--budget=smoke", cwd=tmp_path)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "cnn+flip_crop:padding_px=1+affine" in planned.stdout

    command = ["run", "--task=sprites", "--variant=cnn+flip_crop:padding_px=1+affine", "--policy.affine.max_deg=5"]
    small = [f"--protocol.{name}={value}" for name, value in TINY["protocol"].items() if name != "robustness"]
    made = run(*command, *small, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (key,) = [path.name for path in (tmp_path / "runs/runs").iterdir()]
    config = Ledger(tmp_path / "runs").read(key)["config"]
    assert (config["variant"], config["policy"]["affine.max_deg"]) == ("cnn+flip_crop:padding_px=1+affine", 5.0)
    assert all(isinstance(value, int | float | str) for value in config["policy"].values())

    twice = sweep_of(tmp_path, ("cnn+affine+affine",), extras)
    refused = run("plan", "--sweep", twice, "--budget=smoke", cwd=tmp_path)
    assert refused.returncode == 2
    assert re.fullmatch(
        r"error: \S+sweep.yaml: variant: 'cnn\+affine\+affine': has the policy 'affine' twice\n", refused.stderr
    )
