"""The claims of a study, judged: which differences are there, which do not matter, which cannot be told yet."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.evaluations import read_predictions
from analysis.means import Mean, mean_of
from analysis.names import variant_parts
from analysis.records import Claim, Claims, Study
from analysis.statistics import (
    Floats,
    Interval,
    bca_interval,
    equivalence_p,
    holm,
    mean_interval,
    probability_of_improvement,
    seeds_by_images_interval,
    seeds_to_decide,
    sign_flip_p,
)

Decision = Literal["better", "worse", "equivalent", "undecided", "untested"]


@dataclass(frozen=True)
class ClaimResult:
    """A claim and what the completed final runs say of it. Accuracies and their differences are fractions.

    difference: of the test accuracies, paired by seed, with its Student-t interval; of an interaction: the difference
        with the policy minus that without it.
    bca: ends of the bootstrap interval (bias-corrected and accelerated) of the same mean over seeds.
    images: ends of the interval that resamples seeds and test images both; NaN where no predictions are kept.
    p: of the exact sign-flip test, two-sided. p_holm: corrected for the study's family.
    p_equivalent: of the two one-sided tests that the difference lies within the margin, corrected for the family too.
    improvement: probability that a run of the variant beats one of the baseline, of other seeds (ties count half).
    decision: `better` or `worse` where p_holm is at most alpha; else `equivalent` where p_equivalent is; else
        `undecided`; `untested` with fewer than two pairs.
    seeds_needed: seeds with which the claim could probably be decided, if what was seen so far is the truth; None where
        it is decided, or where nothing can be said.
    keys: of the runs that this is over.
    """

    claim: Claim
    difference: Mean
    bca: tuple[float, float]
    images: tuple[float, float]
    p: float
    p_holm: float
    p_equivalent: float
    improvement: float
    decision: Decision
    seeds_needed: int | None
    keys: tuple[str, ...]


MIN_EQUIVALENCE = 3
"""Pairs without which no equivalence is decided: two that happen to agree look like no scatter at all."""


class Judgement(NamedTuple):
    """What the tests say of a claim of a family; the p-values are those of ClaimResult, NaN where it is untested."""

    p: float
    p_holm: float
    p_equivalent: float
    decision: Decision


def judge(difference_CS: Floats, alpha: float, margin: float) -> tuple[Judgement, ...]:
    """Judges a family of claims by their paired differences over seeds; NaN differences are no pairs.

    The probability of any wrong `better` or `worse` is at most alpha, and so is that of any wrong `equivalent`.
    """
    tested_C = (~np.isnan(difference_CS)).sum(axis=-1) >= 2
    mean_C = mean_interval(difference_CS).mean_X
    p_C = np.where(tested_C, sign_flip_p(difference_CS), np.nan)
    enough_C = (~np.isnan(difference_CS)).sum(axis=-1) >= MIN_EQUIVALENCE
    p_equivalent_C = np.where(enough_C, equivalence_p(difference_CS, margin), 1.0)
    judgements = []
    for tested, mean, *p_3 in zip(tested_C, mean_C, p_C, holm(p_C), holm(p_equivalent_C), strict=True):
        p, p_holm, p_equivalent = map(float, p_3)
        decision: Decision = "undecided"
        if p_holm <= alpha:
            decision = "better" if mean > 0 else "worse"
        elif p_equivalent <= alpha:
            decision = "equivalent"
        untested = Judgement(math.nan, math.nan, math.nan, "untested")  # it stays in the family all the same
        judgements.append(Judgement(p, p_holm, p_equivalent, decision) if tested else untested)
    return tuple(judgements)


class _Run(NamedTuple):
    key: str
    accuracy: float


_Arms = Mapping[tuple[str, str], Mapping[int, _Run]]
"""By pose and variant, then by seed: the completed final runs."""

_SIGNS = (1, -1, -1, 1)
"""Of the variant, the baseline, and the same two without their policies."""


def claim_results(study: Study) -> tuple[ClaimResult, ...]:
    """The study's claims, judged together, in their order. Raises AnalysisError for predictions of another form.

    An interaction is over four arms: those of the claim and the same two without their policies.
    """
    family = study.claims.family
    if not family:
        return ()
    by_arm = _completed(study)
    pairs = [_pairs(claim, by_arm) for claim in family]
    width = max(2, *(len(runs) for runs in pairs))
    difference_CS: Floats = np.full((len(family), width), np.nan)
    for c, runs in enumerate(pairs):
        # Rounded: four fractions that cancel leave a trace, which a test of signs would take for a difference
        difference_CS[c, : len(runs)] = [round(_signed(run.accuracy for run in seed), 12) for seed in runs]
    mean, bca, images = mean_interval(difference_CS), bca_interval(difference_CS), _images(study, pairs)
    judgements = judge(difference_CS, study.claims.alpha, study.claims.margin)
    results = []
    for c, (claim, runs, judgement) in enumerate(zip(family, pairs, judgements, strict=True)):
        results.append(
            ClaimResult(
                claim=claim,
                difference=mean_of(mean, c),
                bca=(float(bca.low_X[c]), float(bca.high_X[c])),
                images=(float(images.low_X[c]), float(images.high_X[c])),
                p=judgement.p,
                p_holm=judgement.p_holm,
                p_equivalent=judgement.p_equivalent,
                improvement=math.nan if claim.interaction else _improvement(runs),
                decision=judgement.decision,
                seeds_needed=_seeds_needed(study.claims, difference_CS[c])
                if judgement.decision == "undecided"
                else None,
                keys=tuple(run.key for arm in zip(*runs, strict=True) for run in arm),
            )
        )
    return tuple(results)


def _completed(study: Study) -> _Arms:
    runs = study.runs
    kept = runs[(runs["stage"] == "final") & (runs["status"] == "completed") & runs["test_accuracy"].notna()]
    by_arm: dict[tuple[str, str], dict[int, _Run]] = {}
    columns = (kept[name].tolist() for name in ("pose", "variant", "seed", "key", "test_accuracy"))
    for pose, variant, seed, key, accuracy in zip(*columns, strict=True):
        by_arm.setdefault((pose, variant), {})[int(seed)] = _Run(key, accuracy)
    return by_arm


def _pairs(claim: Claim, by_arm: _Arms) -> list[tuple[_Run, ...]]:
    """For each seed that all arms of the claim completed, their runs in the order of _SIGNS."""
    variants = [claim.variant, claim.baseline]
    if claim.interaction:
        policies = {variant_parts(variant).policy for variant in variants}
        if len(policies) > 1 or policies == {""}:
            return []
        variants += [variant.partition("+")[0] for variant in variants]
    arms = [by_arm.get((claim.pose, variant), {}) for variant in variants]
    return [tuple(arm[seed] for arm in arms) for seed in sorted(set.intersection(*map(set, arms)))]


def _signed(values: Iterable[Any]) -> Any:
    """The first less the second, and of four that less the third's excess over the fourth."""
    return sum(sign * value for sign, value in zip(_SIGNS, values, strict=False))


def _images(study: Study, pairs: list[list[tuple[_Run, ...]]]) -> Interval:
    """Intervals over seeds and images; NaN for a claim with a run that has no predictions, or those of other images."""
    tested = [c for c, runs in enumerate(pairs) if len(runs) >= 2]
    keys = sorted({run.key for c in tested for runs in pairs[c] for run in runs})
    correct: dict[str, npt.NDArray[np.int8]] = {}
    label_N: npt.NDArray[np.int16] | None = None
    for key in keys:
        found = read_predictions(study, key)
        if found is None or not found.label_N.size:
            continue
        label_N = found.label_N if label_N is None else label_N
        if np.array_equal(found.label_N, label_N):
            correct[key] = found.correct_N.astype(np.int8)
    tested = [c for c in tested if all(run.key in correct for runs in pairs[c] for run in runs)]
    interval = seeds_by_images_interval(
        [np.stack([_signed(correct[run.key] for run in runs) for runs in pairs[c]]) for c in tested]
    )
    ends_2C = np.full((2, len(pairs)), np.nan)
    ends_2C[:, tested] = interval
    return Interval(*ends_2C)


def _improvement(runs: list[tuple[_Run, ...]]) -> float:
    if len(runs) < 2:
        return math.nan
    accuracy_2S = np.transpose([[run.accuracy for run in seed] for seed in runs])
    return probability_of_improvement(*accuracy_2S, num_resamples=0).probability


def _seeds_needed(claims: Claims, difference_S: Floats) -> int | None:
    difference_S = difference_S[~np.isnan(difference_S)]
    mean, sd = float(difference_S.mean()), float(difference_S.std(ddof=1))
    needed = seeds_to_decide(mean, sd, len(claims.family), claims.alpha, claims.margin)
    return None if needed is None else max(needed, len(difference_S) + 1)
