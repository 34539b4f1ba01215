"""Ratios of means that are paired by seed.

Legend: X any axes (such as variants), S seeds.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from analysis.statistics.intervals import CONFIDENCE, Floats


class Ratio(NamedTuple):
    """Ratios of two means and their intervals, low_X to high_X; the ratio lies between them, seldom in the middle.

    ratio_X, low_X, high_X: NaN where the denominator's mean is not significantly above zero, or under two pairs.
    num_X: pairs that the means are over.
    """

    ratio_X: Floats
    low_X: Floats
    high_X: Floats
    num_X: npt.NDArray[np.int64]


def paired_ratio(numerator_XS: npt.ArrayLike, denominator_XS: npt.ArrayLike) -> Ratio:
    """Mean of the numerator over mean of the denominator, with Fieller's interval at CONFIDENCE.

    Column s of both arrays must be the same seed; a seed that either lacks (NaN) is no pair. The interval holds each
    ratio r for which a two-sided t test over the seeds does not tell numerator - r * denominator from zero. It has two
    ends only if the denominator's own t interval excludes zero; elsewhere, or where that mean is negative, all is NaN.

    Source: Fieller 1954, Some problems in interval estimation; Franz 2007, Ratios: a short guide to confidence
    limits and proper use (arXiv:0710.2024), section 3.
    """
    numerator_XS, denominator_XS = np.broadcast_arrays(
        np.asarray(numerator_XS, dtype=np.float64), np.asarray(denominator_XS, dtype=np.float64)
    )
    pair_XS = ~np.isnan(numerator_XS + denominator_XS)
    num_X = pair_XS.sum(axis=-1, dtype=np.int64)
    mean_2X, deviation_2XS = [], []
    for score_XS in (numerator_XS, denominator_XS):
        mean_X = np.where(pair_XS, score_XS, 0.0).sum(axis=-1) / np.maximum(num_X, 1)
        mean_2X.append(mean_X)
        deviation_2XS.append(np.where(pair_XS, score_XS - mean_X[..., None], 0.0))
    (top_X, bottom_X), (top_XS, bottom_XS) = mean_2X, deviation_2XS
    freedom_X = np.maximum(num_X - 1, 1)
    # t squared times the variances and the covariance of the two means
    scale_X = stdtrit(freedom_X, (1 + CONFIDENCE) / 2) ** 2 / freedom_X / np.maximum(num_X, 1)
    top_var_X, both_var_X, bottom_var_X = (
        scale_X * (one_XS * other_XS).sum(axis=-1)
        for one_XS, other_XS in ((top_XS, top_XS), (top_XS, bottom_XS), (bottom_XS, bottom_XS))
    )
    # The ends are the roots in r of square_X * r**2 - 2 * linear_X * r + constant_X
    square_X = bottom_X**2 - bottom_var_X
    defined_X = (num_X > 1) & (bottom_X > 0) & (square_X > 0)
    square_X, bottom_X = np.where(defined_X, square_X, 1.0), np.where(defined_X, bottom_X, 1.0)
    linear_X = top_X * bottom_X - both_var_X
    constant_X = top_X**2 - top_var_X
    half_X = np.sqrt(np.maximum(linear_X**2 - square_X * constant_X, 0.0))
    found_3X = (top_X / bottom_X, (linear_X - half_X) / square_X, (linear_X + half_X) / square_X)
    ratio_X, low_X, high_X = (np.where(defined_X, found_X, np.nan) for found_X in found_3X)
    return Ratio(ratio_X, low_X, high_X, num_X)
