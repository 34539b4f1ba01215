"""Means, paired differences and ratios over seeds, as pure array functions.

Shape suffixes: S seeds, always the last axis; X any leading axes. NaN marks a seed without a score.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
"""Probability that an interval covers the true mean, if scores over seeds are normal."""


class Estimate(NamedTuple):
    """Means and their intervals, mean_X - half_width_X to mean_X + half_width_X.

    mean_X: NaN where there is no score. half_width_X: NaN where there are fewer than two.
    num_X: scores (or pairs) that the mean is over.
    """

    mean_X: Floats
    half_width_X: Floats
    num_X: npt.NDArray[np.int64]


def mean_interval(score_XS: npt.ArrayLike) -> Estimate:
    """Mean over seeds with its two-sided Student-t interval at CONFIDENCE.

    Scores are in any unit and keep it. Half width: t(n - 1) * s / sqrt(n), s with n - 1 in the denominator.
    """
    score_XS = np.asarray(score_XS, dtype=np.float64)
    present_XS = ~np.isnan(score_XS)
    num_X = present_XS.sum(axis=-1, dtype=np.int64)
    total_X = np.where(present_XS, score_XS, 0.0).sum(axis=-1)
    mean_X = np.where(num_X > 0, total_X / np.maximum(num_X, 1), np.nan)
    deviation_XS = np.where(present_XS, score_XS - mean_X[..., None], 0.0)
    freedom_X = np.maximum(num_X - 1, 1)
    error_X = np.sqrt((deviation_XS**2).sum(axis=-1) / freedom_X / np.maximum(num_X, 1))
    half_width_X = np.where(num_X > 1, stdtrit(freedom_X, (1 + CONFIDENCE) / 2) * error_X, np.nan)
    return Estimate(mean_X, half_width_X, num_X)


def paired_difference(score_XS: npt.ArrayLike, baseline_XS: npt.ArrayLike) -> Estimate:
    """Mean of score - baseline over the seeds that both have, with the interval of a paired t test.

    Column s of both arrays must be the same seed. A seed that either lacks (NaN) is no pair.
    """
    return mean_interval(np.asarray(score_XS, dtype=np.float64) - np.asarray(baseline_XS, dtype=np.float64))
