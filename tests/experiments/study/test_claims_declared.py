"""Claims as sweep.yaml declares them: the family at each budget, what is refused, what a plan says of them."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.findings import find
from analysis.records import read_study
from analysis.report.method import method
from experiments.study.study import Study, load_study
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import main
from experiments.terminal.commands.plan import FOR_CLEAR_DIFFERENCES, notes, prospects
from ledger.config import RESULT_FORMAT
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.study import Claim, Claims
from tests.support.tiny_study import TINY, HereAndNow, plan_of, sweep_here, write_sweep

NAMES = ("cnn", "stn_affine", "cnn+affine", "stn_affine+affine", "cnn+flip_crop")


def four(**changes: Any) -> dict[str, Any]:
    """A study of the four arms of a factorial, and one more, at two poses."""
    study: dict[str, Any] = {
        "name": "four",
        "task": "sprites",
        "poses": ["upright", "R"],
        "variants": [{"variant": name, "baseline": "cnn"} for name in NAMES],
    }
    return study | changes


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Study]:
    """Loads a study of four() with changes."""

    def load_changed(budget: str = "cpu", **changes: Any) -> Study:
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(four(**changes)))
        return load_study(path, budget)

    return load_changed


def test_without_claims_each_variant_is_compared_with_its_baseline(load: Callable[..., Study]) -> None:
    family = tuple(Claim(pose, name, "cnn") for pose in ("upright", "R") for name in NAMES[1:])
    assert load().claims == Claims(alpha=0.05, margin=0.01, declared=False, family=family)
    only_numbers = load(claims={"alpha": 0.01, "margin": 0.002}).claims
    assert only_numbers == Claims(alpha=0.01, margin=0.002, declared=False, family=family)


def test_a_claim_is_about_one_pose_or_about_every_one(load: Callable[..., Study]) -> None:
    claims = load(
        claims={
            "family": [
                {"variant": "stn_affine", "over": "cnn"},
                {"variant": "cnn+flip_crop", "over": "cnn+affine", "pose": "R"},
                {"variant": "stn_affine+affine", "over": "cnn+affine", "pose": "R", "interaction": True},
            ]
        }
    ).claims
    assert claims.declared
    assert claims.family == (
        Claim("upright", "stn_affine", "cnn"),
        Claim("R", "stn_affine", "cnn"),
        Claim("R", "cnn+flip_crop", "cnn+affine"),
        Claim("R", "stn_affine+affine", "cnn+affine", interaction=True),
    )


def test_a_budget_has_keys_of_its_own_and_the_files_for_the_rest(load: Callable[..., Study]) -> None:
    claims = {"alpha": 0.1, "margin": 0.02, "family": [{"variant": "stn_affine", "over": "cnn"}]}
    own = {"margin": 0.005, "family": [{"variant": "cnn+affine", "over": "cnn", "pose": "upright"}]}
    budgets = {"smoke": {"claims": own}, "gpu": {"poses": ["upright"]}}
    smoke, cpu, gpu = (load(each, claims=claims, budgets=budgets).claims for each in ("smoke", "cpu", "gpu"))
    assert smoke == Claims(0.1, 0.005, True, (Claim("upright", "cnn+affine", "cnn"),))
    assert cpu == Claims(0.1, 0.02, True, tuple(Claim(pose, "stn_affine", "cnn") for pose in ("upright", "R")))
    assert gpu == Claims(0.1, 0.02, True, (Claim("upright", "stn_affine", "cnn"),))


def claim(variant: str = "stn_affine", over: str = "cnn", **more: Any) -> dict[str, Any]:
    return {"family": [{"variant": variant, "over": over, **more}]}


INTERACTION = "claims.family[0].interaction: needs "
REFUSED: dict[str, tuple[Any, str]] = {
    "a list": ([1], "claims: [1] is not a set of keys with values"),
    "unknown key": ({"famly": []}, "claims.famly: unknown key; did you mean 'family'?"),
    "alpha 0": ({"alpha": 0}, "claims.alpha: 0 is not between 1e-06 and 0.5"),
    "alpha in per cent": ({"alpha": 5}, "claims.alpha: 5 is not between 1e-06 and 0.5"),
    "margin in points": ({"margin": 1}, "claims.margin: 1 is not between 1e-06 and 0.5"),
    "margin nan": ({"margin": float("nan")}, "claims.margin: nan is not a number"),
    "no family": ({"family": []}, "claims.family: [] is not a list of at least one"),
    "a claim a text": ({"family": ["cnn"]}, "claims.family[0]: 'cnn' is not a set of keys with values"),
    "claim's key": (claim(baseline="cnn"), "claims.family[0].baseline: unknown key; known: interaction, over, "),
    "no over": ({"family": [{"variant": "stn_affine"}]}, "claims.family[0].over: is missing"),
    "variant": (claim("stn_afine"), "claims.family[0].variant: 'stn_afine' is not among the variants; did you mean "),
    "over": (claim(over="cnnn"), "claims.family[0].over: 'cnnn' is not among the variants; did you mean 'cnn'?"),
    "over itself": (claim(over="stn_affine"), "claims.family[0].over: 'stn_affine' is the variant itself"),
    "pose": (claim(pose="RTS"), "claims.family[0].pose: 'RTS' is not among the poses; known: R, upright"),
    "interaction a word": (claim(interaction="yes"), "claims.family[0].interaction: 'yes' is neither true nor false"),
    "twice": (
        {"family": [*claim(pose="R")["family"], *claim()["family"]]},
        "claims.family[1]: 'stn_affine' over 'cnn' at pose 'R' is there twice",
    ),
    "interaction without a policy": (
        claim(interaction=True),
        f"{INTERACTION}two variants with the same policy, not 'stn_affine' and 'cnn'",
    ),
    "interaction of two policies": (
        claim("stn_affine+affine", "cnn+flip_crop", interaction=True),
        f"{INTERACTION}two variants with the same policy, not 'stn_affine+affine' and 'cnn+flip_crop'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_claim(load: Callable[..., Study], tmp_path: Path, case: str) -> None:
    claims, expected = REFUSED[case]
    with pytest.raises(UserError) as caught:
        load(claims=claims)
    assert str(caught.value).startswith(f"{tmp_path / 'sweep.yaml'}: {expected}")


def arms(*names: str) -> list[dict[str, str]]:
    return [{"variant": name, "baseline": names[0]} for name in names]


def test_an_interaction_needs_its_four_arms(load: Callable[..., Study]) -> None:
    interaction = claim("stn_affine+affine", "cnn+affine", interaction=True)
    with pytest.raises(UserError, match=r"interaction: needs 'stn_affine' as well, which is not among the variants; "):
        load(variants=arms("cnn", "cnn+affine", "stn_affine+affine"), claims=interaction)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"variants": arms("cnn", "cnn+affine")}, r"variant: 'stn_affine' is not among the variants of budgets\.gpu; "),
        ({"poses": ["upright"]}, r"pose: 'R' is not among the poses of budgets\.gpu; "),
    ],
)
def test_claims_hold_at_every_budget(load: Callable[..., Study], budget: dict[str, Any], expected: str) -> None:
    """A family that lost a claim with a budget would be corrected for fewer than were declared."""
    with pytest.raises(UserError, match=rf"claims\.family\[0\]\.{expected}"):
        load("cpu", claims=claim(pose="R"), budgets={"gpu": budget})


# The smallest p of n paired seeds is 2 / 2**n: .0625, .03125, .015625, .0078125, .00390625 for n = 5 ... 9.
# Holm asks alpha / m of the smallest of m: .05, .01667, .01, .00556, .005 for m = 1, 3, 5, 9, 10.
@pytest.mark.parametrize(
    ("num_claims", "alpha", "needed"),
    [(1, 0.05, 6), (3, 0.05, 7), (5, 0.05, 8), (6, 0.05, 8), (9, 0.05, 9), (10, 0.05, 9), (1, 0.5, 2), (2, 0.01, 9)],
)
def test_a_plan_knows_how_many_seeds_can_decide(num_claims: int, alpha: float, needed: int) -> None:
    claims = Claims(alpha=alpha, family=tuple(Claim("R", f"v{number}", "cnn") for number in range(num_claims)))
    for num_seeds in range(1, 15):
        text, decidable = prospects(claims, num_seeds)
        assert decidable == (num_seeds >= needed)
        assert text.startswith(f"{num_seeds} seed") and text.endswith(f" {FOR_CLEAR_DIFFERENCES}")
        assert decidable or f" at best; {needed} could. " in text
    five = "5 seeds cannot decide any of 5 claims: an exact paired test needs p <= 0.01, and 5 seeds reach 0.0625"
    if (num_claims, alpha) == (5, 0.05):
        assert prospects(claims, 5)[0] == f"{five} at best; 8 could. {FOR_CLEAR_DIFFERENCES}"


def test_a_study_without_comparisons_has_nothing_to_decide() -> None:
    assert prospects(Claims(), 1) == ("", True)


def test_a_plan_says_whether_its_seeds_suffice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def planned(**changes: Any) -> str:
        write_sweep(here, **changes)
        assert main(["plan", "--budget=smoke"]) == 0
        return re.sub(r"\s+", " ", capsys.readouterr().out)

    assert "Claims 1, none declared: each variant over its baseline Seeds 2 seeds cannot decide 1 claim: " in planned()
    declared = {"family": [{"variant": "stn_affine+affine", "over": "cnn"}]}
    assert "Claims stn_affine+affine over cnn Seeds 6 seeds can decide 1 claim: " in planned(
        claims=declared, final_seeds=6
    )
    alone = [{"variant": "cnn", "baseline": "cnn"}]
    assert "Claims none: no variant has another one as its baseline Pose" in planned(variants=alone, search={})


def manifest(folder: Path, **changes: Any) -> dict[str, Any]:
    """study.json of the tiny study before anything is trained."""
    plan, ledger = plan_of(folder, **changes), Ledger(folder / "runs")
    sweep = Sweep(plan, ledger, store=True)
    sweep.replay()
    sweep.write_manifest()
    found: dict[str, Any] = json.loads((folder / "runs/studies" / plan.name / "study.json").read_text())
    return found


def test_study_json_has_the_claims_in_the_spelling_of_its_arms(tmp_path: Path, cache: Path) -> None:
    names: Sequence[str] = ("cnn", "stn_affine:padding=zeros+affine:max_scale=1.4:max_deg=20")
    found = manifest(
        tmp_path,
        poses=["R:max_deg=90"],
        variants=arms(*names),
        claims={"margin": 0.02, "family": [{"variant": names[1], "over": "cnn", "pose": "R:max_deg=90"}]},
    )
    ((pose, variant),) = {(arm["pose"], arm["variant"]) for arm in found["arms"] if arm["variant"] != "cnn"}
    assert (pose, variant) != ("R:max_deg=90", names[1])
    family = [{"pose": pose, "variant": variant, "baseline": "cnn", "interaction": False}]
    assert found["claims"] == {"alpha": 0.05, "margin": 0.02, "declared": True, "family": family}
    assert found["format"] == RESULT_FORMAT


def test_study_json_remembers_what_was_planned_first(tmp_path: Path, cache: Path) -> None:
    first = manifest(tmp_path)
    assert {"num_finals": 2, "first_seed": 1, "claims": first["claims"]}.items() <= first["first"].items()
    assert read_study(tmp_path / "runs", first["study"]).is_as_planned
    later = manifest(tmp_path, final_seeds=3)
    assert later["num_finals"] == 3
    assert later["first"] == first["first"]
    changed = find(tmp_path / "runs", first["study"])
    assert any("were changed after the study had begun" in sentence for sentence in method(changed))
    assert read_study(tmp_path / "runs", manifest(tmp_path)["study"]).is_as_planned
    assert not read_study(tmp_path / "runs", manifest(tmp_path, first_seed=3)["study"]).is_as_planned


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": TINY["protocol"] | {"epochs": 3}},
        {"search": TINY["search"] | {"trials": 3}},
        {"search": TINY["search"] | {"space": {"optim.lr": {"value": 0.3}}}},
        {"search": TINY["search"] | {"extras": {"affine": {"policy.max_deg": {"min": 5.0, "max": 6.0}}}}},
        {"search": TINY["search"] | {"extras": {}}},
    ],
    ids=["protocol", "trials", "space", "extras", "no extras"],
)
def test_a_study_that_is_trained_or_tuned_otherwise_after_its_results_says_so(tmp_path, cache, change):
    """Else the search could be widened until the test agrees, and nothing would tell."""
    extras = {"search": TINY["search"] | {"extras": {"affine": {"policy.max_deg": {"min": 5.0, "max": 45.0}}}}}
    study = manifest(tmp_path, **extras)["study"]
    manifest(tmp_path, **(extras | change))
    assert not read_study(tmp_path / "runs", study).is_as_planned
    manifest(tmp_path, **extras)
    assert read_study(tmp_path / "runs", study).is_as_planned


def test_a_variant_may_be_added_with_parameters_of_its_own(tmp_path: Path, cache: Path) -> None:
    rotate = {"rotate": {"policy.max_deg": {"min": 5.0, "max": 45.0}}}
    more: dict[str, Any] = {
        "variants": [*TINY["variants"], {"variant": "cnn+rotate", "baseline": "cnn"}],
        "search": TINY["search"] | {"extras": TINY["search"]["extras"] | rotate},
        "claims": {"family": [{"variant": "stn_affine+affine", "over": "cnn"}]},
    }
    study = manifest(tmp_path, claims=more["claims"])["study"]
    assert manifest(tmp_path, **more)["study"] == study
    assert read_study(tmp_path / "runs", study).is_as_planned


def test_study_json_says_where_the_study_comes_from_and_what_was_searched(tmp_path: Path, cache: Path) -> None:
    found = manifest(tmp_path)
    assert found["sampler"] == "tpe"
    assert found["source"] == {"file": "sweep.yaml", "data": False, "minutes": None}
    lr = {"distribution": "log_uniform_values", "min": 0.02, "max": 0.5}
    loc = {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0}
    assert [arm["space"] for arm in found["arms"]] == [{"optim.lr": lr}, {"optim.lr": lr, "model.loc_lr_factor": loc}]
    assert found["claims"]["declared"] is False
    assert load_study(tmp_path / "sweep.yaml", "smoke", task="folder:x").own_images


def noted(folder: Path, **changes: Any) -> list[str]:
    under_way = Sweep(plan_of(folder, **changes), Ledger(folder / "runs"), store=False)
    under_way.replay()
    return list(notes(under_way))


@pytest.mark.long
def test_a_plan_says_what_keeps_it_from_confirming_anything(tmp_path: Path, cache: Path) -> None:
    assert noted(tmp_path) == []
    (no_tuning,) = noted(tmp_path, name="confirm", first_seed=2)
    assert no_tuning.startswith("Not all of its tuning is in this ledger")
    sweep_here(tmp_path, HereAndNow())
    assert noted(tmp_path) == []
    assert noted(tmp_path, name="confirm", first_seed=3) == []
    (seen,) = noted(tmp_path, name="confirm", first_seed=2)
    assert seen == (
        "Another study has final runs of seed 2: they confirm nothing. A higher first_seed leads to fresh ones."
    )
    left, changed = noted(tmp_path, first_seed=3)
    assert left.startswith("4 finished runs of this study will not count")
    assert changed.startswith("This study was begun with other claims, seeds, training or search")
    sweep_here(tmp_path, HereAndNow(), name="confirm", first_seed=3)
    assert noted(tmp_path, name="confirm", first_seed=3) == []  # its own
