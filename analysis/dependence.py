"""How far a study's differences depend on its factor: the same arms at each value, which is a study of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from analysis.formats import one_line
from analysis.means import Mean, mean_of
from analysis.records import Study, read_study, study_names
from analysis.ripeness import is_ripe, trained_arms
from analysis.scores import FinalScores, final_scores
from analysis.statistics import Floats, mean_interval
from analysis.statistics.equivalence import equivalence_p
from analysis.statistics.families import holm
from analysis.statistics.trend import MIN_TREND, t_test_p
from analysis.wording import p_text, plain_points, signed_points
from ledger.config import whole_protocol
from ledger.options import option_text

Extent = Literal["depends", "same", "open", "unripe"]

MAX_TOLD = 4
"""Variants of a pose of which nothing is known, one by one; of more, one sentence tells."""


class Level(NamedTuple):
    """A variant at a value of the factor. difference: to its baseline. change: of that since the first value.

    All are over seeds; num is 0 where there are none. keys: of the variant's runs.
    fault: why the study at this value does not count, which differs in more than the factor; "" where it does, or is
    not there.
    """

    value: str
    accuracy: Mean
    difference: Mean
    change: Mean
    keys: tuple[str, ...]
    fault: str


@dataclass(frozen=True)
class Dependence:
    """A variant at each value of the factor.

    extent: whether tests show that its difference depends on the factor, or that it changes by less than the margin;
        `unripe` where at some value it was trained too short for a difference to be called one (ripeness.py).
    p: of the tests that say so, corrected for all values of all variants; NaN of one that is compared with none, and of
        an unripe one.
    """

    pose: str
    variant: str
    baseline: str
    levels: tuple[Level, ...]
    extent: Extent
    p: float

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for level in self.levels for key in level.keys)

    @property
    def is_compared(self) -> bool:
        return self.variant != self.baseline

    @property
    def is_whole(self) -> bool:
        """Whether there is a difference at each value, and a change with an interval since the first."""
        return all(level.change.num >= MIN_TREND for level in self.levels[1:])


class _Scores(NamedTuple):
    """Accuracies of a study's arms, by pose and variant, then by seed; and the keys of their runs.

    unripe: arms that were trained too short, or whose baselines were. fault: why there are none, where the study is not
    one of the factor's.
    """

    accuracy: dict[tuple[str, str], dict[int, float]]
    keys: dict[tuple[str, str], tuple[str, ...]]
    unripe: frozenset[tuple[str, str]] = frozenset()
    fault: str = ""


def dependences(study: Study) -> tuple[Dependence, ...]:
    """Each arm of the study at each value of its factor, in its order; none without a factor."""
    if study.factor is None:
        return ()
    there = study_names(study.ledger)
    found = [_scores(study, name) if name in there else _Scores({}, {}) for name in study.factor.studies]
    seeds = sorted({seed for each in found for of_arm in each.accuracy.values() for seed in of_arm})
    values = [one_line(option_text(value)) for value in study.factor.values]

    def of_arm(pose: str, variant: str) -> Floats:
        rows = [each.accuracy.get((pose, variant), {}) for each in found]
        return np.array([[row.get(seed, np.nan) for seed in seeds] for row in rows], dtype=np.float64)

    accuracy_AVS = np.array([of_arm(arm.pose, arm.variant) for arm in study.arms])
    difference_AVS = accuracy_AVS - np.array([of_arm(arm.pose, arm.baseline) for arm in study.arms])
    compared_A = np.array([arm.variant != arm.baseline for arm in study.arms])
    ripe_A = np.array([not any((arm.pose, arm.variant) in each.unripe for each in found) for arm in study.arms])
    difference_AVS[~compared_A] = np.nan
    change_AVS = np.round(difference_AVS - difference_AVS[:, :1], 12)
    extents = iter(_extents(change_AVS[compared_A & ripe_A, 1:], study.claims.alpha, study.claims.margin))
    rows = []
    for a, arm in enumerate(study.arms):
        accuracy, difference, change = (mean_interval(each[a]) for each in (accuracy_AVS, difference_AVS, change_AVS))
        keys = [each.keys.get((arm.pose, arm.variant), ()) for each in found]
        levels = tuple(
            Level(value, mean_of(accuracy, v), mean_of(difference, v), mean_of(change, v), keys[v], found[v].fault)
            for v, value in enumerate(values)
        )
        untested: tuple[Extent, float] = ("open" if ripe_A[a] else "unripe", np.nan)
        extent, p = next(extents) if compared_A[a] and ripe_A[a] else untested
        rows.append(Dependence(arm.pose, arm.variant, arm.baseline, levels, extent, p))
    return tuple(rows)


def _scores(study: Study, name: str) -> _Scores:
    """Of one of the studies of the factor."""
    other = study if name == study.name else read_study(study.ledger, name)
    if what := _other_than_the_factor(study, other):
        return _Scores({}, {}, fault=f"{one_line(name)} has another {what} than this one: carry it out again")
    scores = final_scores(other)
    rows = {
        (arm.pose, arm.variant): dict(zip(scores.seeds, row_S.tolist(), strict=True))
        for arm, row_S in zip(other.arms, scores.test_AS, strict=True)
    }
    return _Scores(rows, {place: scores.keys[i] for place, i in other.places.items()}, frozenset(_unripe(scores)))


def _unripe(scores: FinalScores) -> Iterator[tuple[str, str]]:
    """The arms whose differences to their baselines a longer training could turn."""
    study, trained = scores.study, trained_arms(scores)
    for i, arm in enumerate(study.arms):
        baseline = study.places[arm.pose, arm.baseline]
        difference_S = scores.test_AS[i] - scores.test_AS[baseline]
        known = not np.isnan(difference_S).all()
        if i != baseline and known and not is_ripe(study, [trained[i], trained[baseline]], np.nanmean(difference_S)):
            yield arm.pose, arm.variant


def _other_than_the_factor(study: Study, other: Study) -> str:
    """What the two differ in that studies of one factor have alike; "" where there is nothing."""
    if study.factor is None or other.factor != study.factor:
        return "factor"
    if other.test_pose != study.test_pose:
        return "test pose"
    mine, theirs = (
        {name: value for name, value in whole_protocol(each.protocol).items() if name not in _moved(study.factor.key)}
        for each in (study, other)
    )
    return "protocol" if study.protocol and other.protocol and mine != theirs else ""


def _moved(key: str) -> tuple[str, ...]:
    """What of a protocol differs with the factor: where all images are trained on, these are what validation leaves."""
    name = key.removeprefix("protocol.")
    return (name, "train_images") if name == "val_images" else (name,)


def _extents(change_CVS: Floats, alpha: float, margin: float) -> Iterator[tuple[Extent, float]]:
    """Of each variant, and the p of that. change_CVS: of its difference, from the first value to each other one.

    A wrong `depends` has a probability of alpha at most, and so has a wrong `same`.
    """
    enough_CV = (~np.isnan(change_CVS)).sum(axis=-1) >= MIN_TREND
    moved_CV = holm(t_test_p(change_CVS).ravel()).reshape(enough_CV.shape)
    small_CV = holm(np.where(enough_CV, equivalence_p(change_CVS, margin), 1.0).ravel()).reshape(enough_CV.shape)
    for moved_V, small_V in zip(moved_CV, small_CV, strict=True):
        if small_V.max() <= alpha:
            yield "same", float(small_V.max())
        else:
            yield "depends" if moved_V.min() <= alpha else "open", float(moved_V.min())


def dependence_texts(study: Study, rows: tuple[Dependence, ...]) -> Iterator[tuple[str, str]]:
    """The pose and a sentence of each variant whose difference is known at every value; of many untold ones, one.

    No number is told of one that was trained too short.
    """
    if study.factor is None:
        return
    key, margin = one_line(study.factor.key), plain_points(study.claims.margin)
    known = [row for row in rows if row.is_compared and row.is_whole]
    untold = {pose: sum((row.pose, row.extent) == (pose, "open") for row in known) for pose in (r.pose for r in known)}
    for row in known:
        if row.extent == "open" and untold[row.pose] > MAX_TOLD:
            continue
        what = f"what {one_line(row.variant)} has over {one_line(row.baseline)}"
        if row.extent == "unripe":
            why = "at some value of it they were trained too short to tell"
            yield row.pose, f"Whether {what} depends on {key} is not known: {why}."
            continue
        at = ", ".join(f"{signed_points(level.difference)} at {level.value}" for level in row.levels)
        said = {
            "depends": f"W{what[1:]} depends on {key}",
            "same": f"W{what[1:]} changes by less than {margin} over the values of {key}",
            "open": f"Cannot tell whether {what} depends on {key}",
        }
        p = p_text("equivalence p" if row.extent == "same" else "Holm p", row.p)
        yield row.pose, f"{said[row.extent]}: {at} ({p})."
    for pose, num in untold.items():
        if num > MAX_TOLD:
            yield pose, f"Cannot tell of {num} variants whether what they have over their baselines depends on {key}."
