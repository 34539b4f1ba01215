"""The ladder of a study: what each claim's difference is at each size of training, and whether it still changes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.flops import flop_cell, flop_unit
from analysis.means import Mean, mean_of
from analysis.records import Study
from analysis.ripeness import TOO_SHORT
from analysis.scores import final_scores
from analysis.statistics import Floats, mean_interval
from analysis.statistics.ratio import paired_ratio
from analysis.statistics.trend import Direction, Trend, trends
from ledger.study import Claim

TREND_WORDS: dict[Direction, str] = {
    "settled": "last change too small to matter",
    "moving": "still changing",
    "turning": "turning",
    "open": "cannot tell whether it still changes",
}


MAX_STEPS = 5.0
"""From one size to the next, that the interval of the place of 0 may reach: beyond, it says nothing."""


@dataclass(frozen=True)
class Step:
    """A claim at one rung.

    train_flops: of a final run of the claim's variant; NaN if unknown. difference: of test accuracies, a fraction,
    paired by seed. keys: of the runs that this is over.
    """

    train_images: int
    epochs: int
    train_flops: float
    difference: Mean
    keys: tuple[str, ...]


class Turn(NamedTuple):
    """Training FLOPs at which a difference is 0, on a straight line over their logarithm, and the ends of its interval.

    The interval is Fieller's, over seeds; it may reach beyond the two sizes, where it is an extrapolation.
    """

    train_flops: float
    low: float
    high: float


@dataclass(frozen=True)
class Climb:
    """A claim over the rungs of its ladder, the study's own size last.

    change: of the difference from the last but one rung to the last. per_doubling: the same for twice the computation;
    NaN where that is unknown. turns_at: where the difference is 0, between the last two sizes whose means have
    different signs; None without such, where their difference is not shown, or hardly.
    """

    claim: Claim
    steps: tuple[Step, ...]
    trend: Trend
    change: Mean
    per_doubling: float
    turns_at: Turn | None

    @property
    def pose(self) -> str:
        return self.claim.pose

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for step in self.steps for key in step.keys)


def missing_runs(study: Study) -> dict[tuple[int, int], int]:
    """How many runs of each rung are not there yet, by training images and epochs; without rungs that are whole.

    An arm that is not tuned yet has as many final runs to come as the others; at least one.
    """
    planned = len(study.arms) * max(1, *(len(arm.finals) for arm in study.arms), 1)
    missing = {
        (rung.train_images, rung.epochs): planned - int((rung.runs["status"] != "missing").sum())
        for rung in study.rungs
    }
    return {size: num for size, num in missing.items() if num > 0}


def sizes_of(study: Study) -> tuple[tuple[int, int], ...]:
    """Training images and epochs of each rung, the study's own last."""
    return tuple((size.train_images, size.epochs) for size in study.sizes)


def climbs(study: Study) -> tuple[Climb, ...]:
    """Each of the study's claims over its ladder, in their order; none without a ladder, or with rungs missing."""
    family = study.claims.family
    if not study.rungs or not family or not study.protocol or missing_runs(study):
        return ()
    of_size = [final_scores(study, size.runs) for size in study.sizes]
    pairs_CR = [[scores.pairs(claim) for scores in of_size] for claim in family]
    difference_CRS = np.array([[pairs.difference_S for pairs in pairs_R] for pairs_R in pairs_CR])
    lacking_CS = np.any(np.isnan(difference_CRS), axis=1)
    trend_C = trends(difference_CRS, study.claims.alpha, study.claims.margin)
    change = mean_interval(np.where(lacking_CS, np.nan, difference_CRS[:, -1] - difference_CRS[:, -2]))
    results = []
    for c, (claim, pairs_R, trend) in enumerate(zip(family, pairs_CR, trend_C, strict=True)):
        mean = mean_interval(difference_CRS[c])
        arm = study.places[claim.pose, claim.variant]
        steps = tuple(
            Step(size.train_images, size.epochs, _train_flops(arm, size.runs), mean_of(mean, r), pairs.keys)
            for r, (size, pairs) in enumerate(zip(study.sizes, pairs_R, strict=True))
        )
        doublings = math.log2(steps[-1].train_flops / steps[-2].train_flops)
        of_change = mean_of(change, c)
        per_doubling = of_change.value / doublings if doublings > 0 else math.nan
        results.append(Climb(claim, steps, trend, of_change, per_doubling, turn_of(steps, difference_CRS[c])))
    return tuple(results)


def still_changes(climb: Climb, decision: str) -> str:
    """Why a longer training could turn the decision, in words; "" where the ladder does not show it.

    A ladder only takes decisions back. That a difference has settled, or grows away from zero, says nothing of sizes
    beyond its own: at the start of every training there is none, and it grows away from that.
    """
    direction, value, change = climb.trend.direction, climb.steps[-1].difference.value, climb.change.value
    shrinks = direction == "moving" and (decision not in ("better", "worse") or value * change < 0)
    if decision == "undecided" or not (shrinks or direction == "turning"):
        return ""
    if any(step.difference.value * value < 0 for step in climb.steps[:-1]) and direction == "turning":
        return f"{TOO_SHORT}: the difference had another sign at a smaller size of training"
    what = "one more step like the last would turn the difference" if direction == "turning" else "it still changes"
    much = f"{100 * (change if math.isnan(climb.per_doubling) else climb.per_doubling):+.1f} points".replace("-", "−")
    of = "" if math.isnan(climb.per_doubling) else " a doubling of the training computation"
    return f"{TOO_SHORT}: {what}; the last step in size moved it by {much}{of}"


def _train_flops(arm: int, runs: pd.DataFrame) -> float:
    known = runs.loc[(runs["stage"] != "trial") & (runs["arm"] == arm), "train_flops"].dropna()
    return float(known.iloc[0]) if len(known) else math.nan


def turn_of(steps: Sequence[Step], difference_RS: Floats) -> Turn | None:
    """Where the paired differences of the steps, one row each, turn; as of Climb.turns_at."""
    for r in range(len(steps) - 1, 0, -1):
        low, high = steps[r - 1], steps[r]
        if low.difference.value * high.difference.value >= 0:
            continue
        sign = math.copysign(1, low.difference.value)
        share = paired_ratio(sign * difference_RS[r - 1], sign * (difference_RS[r - 1] - difference_RS[r]))
        ratio = high.train_flops / low.train_flops
        places = (share.ratio_X, share.low_X, share.high_X)
        if not all(abs(float(place)) <= MAX_STEPS for place in places):  # so that NaN is none
            return None
        return Turn(*(low.train_flops * ratio ** float(place) for place in places))
    return None


def trend_text(climb: Climb) -> str:
    """Such as `still changing`, or `turning; 0 at 16.2 TFLOP (9.10 TFLOP to 24.0 TFLOP)` where the sign changes."""
    words = TREND_WORDS[climb.trend.direction]
    if climb.turns_at is None:
        return words
    unit = flop_unit(climb.turns_at)
    place, low, high = (flop_cell(flops, unit).text for flops in climb.turns_at)
    return f"{words}; 0 at {place} ({low} to {high})"
