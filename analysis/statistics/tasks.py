"""Scores over many tasks, or many poses of one. They say something from MIN_TASKS on."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.statistics.intervals import CONFIDENCE, Floats

MIN_TASKS = 5
NUM_RESAMPLES = 2_000


class Aggregate(NamedTuple):
    """A score over all tasks and the ends of its interval; NaN without any score."""

    value: float
    low: float
    high: float


class Profile(NamedTuple):
    """Share of the runs above each threshold, the mean over tasks, and the ends of its interval at that threshold."""

    share_P: Floats
    low_P: Floats
    high_P: Floats


def interquartile_mean(score_TS: npt.ArrayLike) -> Aggregate:
    """The mean of the middle half of all scores of all tasks, with a percentile interval.

    Scores of different tasks must be on one scale. Less moved by a single odd task than the mean, and by noise than the
    median. The bootstrap is stratified: it resamples the seeds within each task. NaN scores are left out.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sections 4.1 and 4.3.
    """
    kept_TS = _by_task(score_TS)
    if not kept_TS:
        return Aggregate(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(0)
    drawn_BR = np.concatenate(
        [score_S[rng.integers(score_S.size, size=(NUM_RESAMPLES, score_S.size))] for score_S in kept_TS], axis=1
    )
    value = stats.trim_mean(np.concatenate(kept_TS), 0.25)
    low, high = np.quantile(stats.trim_mean(drawn_BR, 0.25, axis=1), _tails())
    return Aggregate(float(value), float(low), float(high))


def performance_profile(score_TS: npt.ArrayLike, threshold_P: npt.ArrayLike) -> Profile:
    """The share of runs that score above each threshold, with a pointwise percentile interval.

    Every task weighs the same. The bootstrap is that of interquartile_mean. NaN scores are left out.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.2, score distributions.
    """
    threshold_P = np.asarray(threshold_P, dtype=np.float64)
    kept_TS = _by_task(score_TS)
    if not kept_TS:
        return Profile(*np.full((3, len(threshold_P)), np.nan))
    rng = np.random.default_rng(0)
    share_P = np.zeros(len(threshold_P))
    drawn_BP = np.zeros((NUM_RESAMPLES, len(threshold_P)))
    for score_S in kept_TS:
        above_SP = (score_S[:, None] > threshold_P).astype(np.float64)
        count_BS = rng.multinomial(score_S.size, np.full(score_S.size, 1 / score_S.size), NUM_RESAMPLES)
        share_P += above_SP.mean(axis=0) / len(kept_TS)
        drawn_BP += count_BS @ above_SP / score_S.size / len(kept_TS)
    low_P, high_P = np.quantile(drawn_BP, _tails(), axis=0)
    return Profile(share_P, low_P, high_P)


def _by_task(score_TS: npt.ArrayLike) -> list[Floats]:
    rows_TS = np.atleast_2d(np.asarray(score_TS, dtype=np.float64))
    return [score_S[~np.isnan(score_S)] for score_S in rows_TS if not np.isnan(score_S).all()]


def _tails() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
