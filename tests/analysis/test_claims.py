"""The claims of a study judged from its ledger: what they are over, what is decided, and how often wrongly."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from scipy import stats

from analysis.claims import ClaimResult, claim_results, judge
from analysis.records import read_study
from analysis.statistics.families import holm
from analysis.statistics.sign_flip import sign_flip_p
from ledger.errors import UserError
from tests.support.synthetic_ledger import (
    EIGHT_SEEDS,
    STUDY,
    edit_json,
    key_of,
    write_arm,
    write_evaluation,
    write_study,
)

NAN = math.nan
pytestmark = pytest.mark.usefixtures("seeds")
SPREAD = np.array([0.001, -0.002, 0.003, 0.0, -0.001, 0.002, -0.003, 0.0])
"""What a seed adds to a difference."""


def claim(variant: str, baseline: str, *, interaction: bool = False, pose: str = "upright") -> dict[str, Any]:
    return {"pose": pose, "variant": variant, "baseline": baseline, "interaction": interaction}


def write_claims(
    ledger: Path, scores: dict[str, list[Any]], family: list[dict[str, Any]], *, images: int = 0, margin: float = 0.01
) -> tuple[ClaimResult, ...]:
    """A ledger of arms with these scores by seed, and what is found of the claims."""
    arms = [write_arm(ledger, variant, variant, row, trial_statuses=()) for variant, row in scores.items()]
    if images:
        for variant, row in scores.items():
            for seed, accuracy in zip(EIGHT_SEEDS, row, strict=False):
                if isinstance(accuracy, float):
                    key = key_of("upright", variant, seed)
                    write_evaluation(ledger, key, accuracy=accuracy, seed=seed, num_images=images)
    claims = {"alpha": 0.05, "margin": margin, "declared": True, "family": family}
    write_study(ledger, arms, claims=claims, sampler="tpe")
    return claim_results(read_study(ledger, STUDY))


def scores(gain: float, *, spread: float = 1.0, wobble: float = 0.0) -> list[Any]:
    base_S = 0.5 + 0.02 * np.sin(np.arange(8)) + wobble * np.cos(3 * np.arange(8))
    return list((base_S + gain + spread * SPREAD).round(4))


def test_each_decision(tmp_path: Path) -> None:
    arms = {
        "cnn": scores(0, spread=0),
        "up": scores(0.03),
        "down": scores(-0.03),
        "same": scores(0.0005),
        "noisy": scores(0.01, spread=8),
        "absent": [None] * 7 + [0.5],
    }
    found = write_claims(tmp_path, arms, [claim(variant, "cnn") for variant in list(arms)[1:]])
    assert [result.decision for result in found] == ["better", "worse", "equivalent", "undecided", "untested"]
    up, _, same, noisy, absent = found
    assert (up.difference.value, up.difference.num) == (pytest.approx(0.03), 8)
    interval = stats.ttest_1samp(np.subtract(arms["up"], arms["cnn"]), 0).confidence_interval()
    assert up.difference.value + up.difference.half_width == pytest.approx(interval.high)
    assert up.bca[0] < 0.03 < up.bca[1]
    assert up.p == 2 / 2**8
    assert up.p_holm == 5 * up.p  # the untested claim counts
    assert up.improvement > 0.9
    assert up.keys == tuple(key_of("upright", variant, seed) for variant in ("up", "cnn") for seed in EIGHT_SEEDS)
    assert [result.seeds_needed for result in (up, same, absent)] == [None] * 3
    assert noisy.seeds_needed is not None and 9 <= noisy.seeds_needed <= 100
    assert np.isnan(
        [absent.p, absent.p_holm, absent.p_equivalent, absent.improvement, *absent.bca, *absent.images]
    ).all()
    assert absent.difference.num == 1 and math.isnan(absent.difference.half_width)
    assert absent.keys == (key_of("upright", "absent", 18), key_of("upright", "cnn", 18))


def test_pairs_are_of_seeds_that_both_completed(tmp_path: Path) -> None:
    arms: dict[str, list[Any]] = {
        "cnn": ["failed", 0.50, 0.51, None, 0.52],
        "stn": [0.90, 0.52, "diverged", 0.90, 0.56],
    }
    (found,) = write_claims(tmp_path, arms, [claim("stn", "cnn")])
    assert (found.difference.value, found.difference.num) == (pytest.approx(0.03), 2)
    assert found.keys == tuple(key_of("upright", variant, seed) for variant in ("stn", "cnn") for seed in (12, 15))
    assert (found.p, found.decision) == (0.5, "undecided")
    assert np.isnan(found.bca).all()


def test_an_interaction_is_over_four_arms(tmp_path: Path) -> None:
    arms = {
        "cnn": scores(0, spread=0),
        "cnn@wide:w=2+affine:p=1": scores(0.02, wobble=0.01),
        "stn:padding=border": scores(0.01, wobble=0.002),
        "stn:padding=border+affine:p=1": scores(0.06),
        "cnn@wide:w=2": scores(0.015, spread=0),
    }
    with_policy, plain = (
        ("stn:padding=border+affine:p=1", "cnn@wide:w=2+affine:p=1"),
        ("stn:padding=border", "cnn@wide:w=2"),
    )
    (found,) = write_claims(tmp_path, arms, [claim(*with_policy, interaction=True)])
    both_S, one_S, other_S, neither_S = (np.array(arms[variant]) for variant in (*with_policy, *plain))
    expected_S = (both_S - one_S) - (other_S - neither_S)
    assert found.difference.value == pytest.approx(expected_S.mean())
    assert found.difference.half_width == pytest.approx(stats.sem(expected_S) * stats.t.ppf(0.975, 7))
    assert found.p == sign_flip_p(expected_S)
    assert math.isnan(found.improvement)
    assert len(found.keys) == len(set(found.keys)) == 32


def test_an_interaction_that_is_nothing_but_rounding(tmp_path: Path) -> None:
    """0.9 - 0.1 - 0.9 + 0.1 is 2.8e-17 in floating point, with one sign in every seed."""
    arms: dict[str, list[Any]] = {"cnn": [0.1] * 8, "cnn+a": [0.1] * 8, "stn": [0.9] * 8, "stn+a": [0.9] * 8}
    (found,) = write_claims(tmp_path, arms, [claim("stn+a", "cnn+a", interaction=True)])
    assert (found.difference.value, found.difference.excludes_zero, found.p) == (0, False, 1)
    assert found.decision == "equivalent"


@pytest.mark.parametrize(
    ("variant", "baseline", "missing"),
    [("stn+affine", "cnn+affine", "stn"), ("stn+affine", "cnn", ""), ("stn", "cnn", "")],
    ids=["an arm short", "one policy", "no policy"],
)
def test_interactions_that_cannot_be_told(tmp_path: Path, variant: str, baseline: str, missing: str) -> None:
    arms = {name: scores(0.01) for name in ("cnn", "cnn+affine", "stn", "stn+affine") if name != missing}
    (found,) = write_claims(tmp_path, arms, [claim(variant, baseline, interaction=True)])
    assert (found.decision, found.keys, found.difference.num) == ("untested", (), 0)


def test_without_declared_claims_each_variant_is_compared_with_its_baseline(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path, "cnn", "cnn", scores(0)), write_arm(tmp_path, "stn", "cnn", scores(0.03))]
    write_study(tmp_path, arms, format=2)
    (found,) = claim_results(read_study(tmp_path, STUDY))
    assert (found.claim.variant, found.claim.baseline, found.decision) == ("stn", "cnn", "better")
    assert np.isnan(found.images).all()


def test_a_study_of_one_arm_has_no_claims(tmp_path: Path) -> None:
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", scores(0))])
    assert claim_results(read_study(tmp_path, STUDY)) == ()


@pytest.mark.filterwarnings("error")
def test_seeds_that_all_say_the_same(tmp_path: Path) -> None:
    arms = {name: [0.5, 0.51, 0.52, 0.53][:num] for name, num in (("cnn", 4), ("same", 4), ("once", 1))}
    arms["up"] = [0.7, 0.71, 0.72, 0.73]
    found = write_claims(tmp_path, arms, [claim(variant, "cnn") for variant in ("same", "up", "once")])
    same, up, once = found
    assert [result.decision for result in found] == ["equivalent", "undecided", "untested"]
    assert (same.p, same.p_equivalent) == (1, 0)
    assert same.bca == pytest.approx((0, 0))
    assert up.bca == pytest.approx((0.2, 0.2))
    assert (up.p, up.p_equivalent, up.seeds_needed, once.seeds_needed) == (0.125, 1, 7, None)


def test_all_runs_failed(tmp_path: Path) -> None:
    arms: dict[str, list[Any]] = {"cnn": ["failed"] * 3, "stn": ["diverged"] * 3}
    (found,) = write_claims(tmp_path, arms, [claim("stn", "cnn")])
    assert (found.decision, found.difference.num, found.keys) == ("untested", 0, ())


def test_images_widen_the_interval_where_predictions_are_kept(tmp_path: Path) -> None:
    arms = {"cnn": scores(0), "cnn+a": scores(0), "stn": scores(0), "stn+a": scores(0)}
    family = [claim("cnn+a", "cnn"), claim("stn+a", "cnn+a", interaction=True)]
    write_claims(tmp_path, arms, family, images=400)
    right = {variant: np.random.default_rng(i).random(400) < 0.5 + 0.1 * i for i, variant in enumerate(arms)}
    for variant in arms:
        for seed in EIGHT_SEEDS:  # every seed is right about the same images
            file = tmp_path / "runs" / key_of("upright", variant, seed) / "predictions.safetensors"
            arrays = safetensors.numpy.load_file(file)
            predicted = np.where(right[variant], arrays["label"], 1 - arrays["label"]).astype(np.int16)
            safetensors.numpy.save_file(arrays | {"predicted": predicted}, file)
    policy, interaction = claim_results(read_study(tmp_path, STUDY))
    signed = {variant: value.astype(float) for variant, value in right.items()}
    policy_N = signed["cnn+a"] - signed["cnn"]
    for found, difference_N in ((policy, policy_N), (interaction, signed["stn+a"] - signed["stn"] - policy_N)):
        assert found.difference.half_width == pytest.approx(0, abs=1e-12)
        half = 1.96 * difference_N.std() / 20
        expected = difference_N.mean() - half, difference_N.mean() + half
        assert found.images == pytest.approx(expected, abs=0.1 * half)


@pytest.mark.parametrize("trouble", ["absent", "other labels", "fewer images"])
def test_a_claim_without_comparable_predictions_has_no_interval_over_images(tmp_path: Path, trouble: str) -> None:
    arms = {"cnn": scores(0), "stn": scores(0.03), "cnn+a": scores(0.02)}
    family = [claim("stn", "cnn"), claim("cnn+a", "cnn")]
    write_claims(tmp_path, arms, family, images=100)
    key = key_of("upright", "stn", 13)
    file = tmp_path / "runs" / key / "predictions.safetensors"
    if trouble == "absent":
        file.unlink()
    elif trouble == "fewer images":
        write_evaluation(tmp_path, key, accuracy=0.5, seed=13, num_images=60)
    else:
        arrays = safetensors.numpy.load_file(file)
        safetensors.numpy.save_file(arrays | {"label": 1 - arrays["label"]}, file)
    stn, policy = claim_results(read_study(tmp_path, STUDY))
    assert np.isnan(stn.images).all() and not np.isnan(policy.images).any()
    assert stn.decision == policy.decision == "better"


def test_predictions_of_another_form_are_one_line(tmp_path: Path) -> None:
    write_claims(tmp_path, {"cnn": scores(0), "stn": scores(0.03)}, [claim("stn", "cnn")], images=100)
    file = tmp_path / "runs" / key_of("upright", "stn", 13) / "predictions.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"predictions\.safetensors: cannot be read") as error:
        claim_results(read_study(tmp_path, STUDY))
    assert "\n" not in str(error.value)


def test_the_same_ledger_gives_the_same_results(tmp_path: Path) -> None:
    family = [claim("stn", "cnn"), claim("cnn+a", "cnn")]
    arms = {"cnn": scores(0), "stn": scores(0.01, wobble=0.01), "cnn+a": scores(0.02)}
    first = write_claims(tmp_path, arms, family, images=100)
    assert repr(claim_results(read_study(tmp_path, STUDY))) == repr(first)
    edit_json(tmp_path / "studies" / STUDY / "study.json", claims={**vars_of(tmp_path), "family": family[::-1]})
    assert repr(claim_results(read_study(tmp_path, STUDY))[::-1]) == repr(first)


def vars_of(ledger: Path) -> dict[str, Any]:
    claims = read_study(ledger, STUDY).claims
    return {"alpha": claims.alpha, "margin": claims.margin, "declared": claims.declared}


NUM_STUDIES = 800
LIMIT = 0.05 + 3 * (0.05 * 0.95 / NUM_STUDIES) ** 0.5


def draw_families(num_claims: int, num_seeds: int, *, truth: float, tails: str) -> list[np.ndarray]:
    """Studies in which every claim's true difference is `truth`; the claims share their baseline's runs."""
    draw = np.random.default_rng([num_claims, num_seeds])
    size = (NUM_STUDIES, num_claims + 1, num_seeds)
    run = draw.normal(size=size) if tails == "normal" else draw.standard_t(3, size=size)
    accuracy = 0.5 + 0.005 * run
    return list((truth + accuracy[:, 1:] - accuracy[:, :1]).round(4))


@pytest.mark.parametrize(("num_claims", "num_seeds", "tails"), [(3, 7, "normal"), (6, 8, "normal"), (6, 8, "heavy")])
def test_a_family_without_any_difference_is_seldom_given_one(num_claims: int, num_seeds: int, tails: str) -> None:
    families = draw_families(num_claims, num_seeds, truth=0, tails=tails)
    wrong = np.mean(
        [any(each.decision in ("better", "worse") for each in judge(family, 0.05, 0.01)) for family in families]
    )
    assert 0 < wrong <= LIMIT
    uncorrected = np.mean([(sign_flip_p(family) <= 0.05).any() for family in families])
    assert uncorrected > LIMIT  # or the draws would show nothing


@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_differences_that_matter_are_seldom_called_equivalent(tails: str) -> None:
    families = draw_families(6, 8, truth=0.01, tails=tails)
    wrong = np.mean([any(each.decision == "equivalent" for each in judge(f, 0.05, 0.01)) for f in families])
    assert wrong <= LIMIT


def test_a_family_of_true_differences_and_none() -> None:
    draw = np.random.default_rng(9)
    truth_C = np.array([0.03, 0.03, 0, 0])
    num_wrong = num_found = 0
    for _ in range(400):
        decisions = [each.decision for each in judge(truth_C[:, None] + draw.normal(0, 0.006, (4, 8)), 0.05, 0.01)]
        num_found += decisions[:2] == ["better", "better"]
        num_wrong += any(decision in ("better", "worse") for decision in decisions[2:])
    assert num_wrong / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert num_found / 400 > 0.9


@pytest.mark.parametrize("alpha", [0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
def test_judgements_follow_the_corrected_tests(alpha: float) -> None:
    difference_CS = np.array([[0.03], [-0.02], [0.003], [0.001], [0.0]]) + np.random.default_rng(10).normal(
        0, 0.009, (5, 8)
    )
    difference_CS[4, 1:] = NAN
    found = judge(difference_CS, alpha, 0.01)
    p_C = holm([*sign_flip_p(difference_CS[:4]), 1.0])
    one_sided_2C = [
        stats.ttest_1samp(difference_CS[:4], bound, axis=-1, alternative=side).pvalue
        for bound, side in ((-0.01, "greater"), (0.01, "less"))
    ]
    p_equivalent_C = holm([*np.maximum(*one_sided_2C), 1.0])
    assert [each.p_holm for each in found[:4]] == pytest.approx(p_C[:4])
    assert [each.p_equivalent for each in found[:4]] == pytest.approx(p_equivalent_C[:4])
    expected = [
        ("better" if row.mean() > 0 else "worse") if p <= alpha else "equivalent" if q <= alpha else "undecided"
        for row, p, q in zip(difference_CS[:4], p_C, p_equivalent_C, strict=False)
    ]
    assert [each.decision for each in found] == [*expected, "untested"]


def test_a_large_family_is_quick(tmp_path: Path) -> None:
    arms = {f"v{i}": scores(0.001 * i, wobble=0.001 * i) for i in range(31)}
    write_claims(tmp_path, arms, [claim(f"v{i}", "v0") for i in range(1, 31)], images=500)
    study = read_study(tmp_path, STUDY)
    started = time.process_time()
    claim_results(study)
    assert time.process_time() - started < 5
