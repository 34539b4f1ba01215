"""Differences between classifiers image by image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import stdtr, stdtrit

from analysis.statistics.bca import Interval
from analysis.statistics.intervals import CONFIDENCE, Floats

NUM_RESAMPLES = 2_000
_MANY, _FEWER = 20_000_000, 500
"""Predictions above which there are fewer resamples, so that a thousand comparisons take seconds."""

_BLOCK_B, _BLOCK_R = 250, 256


def seeds_by_images_interval(difference_XSN: Sequence[npt.NDArray[np.int8]]) -> Interval:
    """Intervals of mean differences between ways to train, over seeds and over images like these.

    difference_XSN: for each comparison an array (its seeds, images): right minus wrong, -1, 0 or 1 (an interaction's:
    -2 to 2). All have the same images. NaN under three seeds.

    Seeds and images are resampled at once and independently, NUM_RESAMPLES times (fewer for very many comparisons), by
    the same draws for every comparison. Such a bootstrap counts three times over what neither seed nor image explains,
    and knows nothing of Student's t; so its percentile interval is scaled about the mean to the unbiased variance of a
    two-way layout, and from the normal distribution's quantile to Student's with the degrees of freedom of that
    variance. Simulated, it covers the truth 92 to 97 % of the time from 3 seeds on.

    Source: Owen 2007, The pigeonhole bootstrap (arXiv:0712.1111); Hesterberg 2015, What teachers should know
    about the bootstrap (arXiv:1411.5279), on narrow intervals; Satterthwaite 1946 for the degrees of freedom.
    """
    ends_2X = np.full((2, len(difference_XSN)), np.nan)
    tested = [x for x, difference_SN in enumerate(difference_XSN) if len(difference_SN) >= 3]
    if not tested:
        return Interval(*ends_2X)
    stacked_RN = np.concatenate([difference_XSN[x] for x in tested])
    resampled_RB = _resample_images(stacked_RN)
    tail = (1 - CONFIDENCE) / 2
    first = 0
    for x in tested:
        num_seeds = len(difference_XSN[x])
        mean_SB = resampled_RB[first : first + num_seeds]
        first += num_seeds
        seed_draw = np.random.default_rng([1, num_seeds])
        count_BS = seed_draw.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), resampled_RB.shape[1])
        mean_B = (count_BS.T * mean_SB).sum(axis=0) / num_seeds
        mean, scale = _mean_and_scale(difference_XSN[x])
        ends_2X[:, x] = mean + scale * (np.quantile(mean_B, [tail, 1 - tail]) - mean)
    return Interval(*ends_2X)


class ImageTests(NamedTuple):
    """p_X: that mean differences are 0 over seeds and images like these; p_equivalent_X: that they lie outside the
    margin. NaN under three seeds.
    """

    p_X: Floats
    p_equivalent_X: Floats


def seeds_by_images_tests(difference_XSN: Sequence[npt.NDArray[np.int8]], margin: float) -> ImageTests:
    """Two-sided t tests, and two one-sided ones, with the variance that seeds_by_images_interval is scaled to.

    All seeds share the test images, so a test over seeds alone takes luck with the images for a difference, and the
    more surely the more seeds there are.
    """
    p_2X = np.full((2, len(difference_XSN)), np.nan)
    for x, difference_SN in enumerate(difference_XSN):
        if len(difference_SN) < 3:
            continue
        size, (_, variance, freedom) = abs(float(difference_SN.mean())), _variances(difference_SN)
        if variance > 0:
            p_2X[:, x] = 2 * stdtr(freedom, -size / variance**0.5), stdtr(freedom, (size - margin) / variance**0.5)
        else:
            p_2X[:, x] = size < 1e-12, size >= margin
    return ImageTests(*p_2X)


def _resample_images(score_RN: npt.NDArray[np.int8]) -> Floats:
    """Means over resampled images, mean_RB: the same images for all rows."""
    num_rows, num_images = score_RN.shape
    rng = np.random.default_rng(0)
    num_resamples = NUM_RESAMPLES if score_RN.size <= _MANY else _FEWER
    mean_RB = np.empty((num_rows, num_resamples))
    for b in range(0, num_resamples, _BLOCK_B):
        drawn_BN = rng.integers(num_images, size=(_BLOCK_B, num_images), dtype=np.int32)
        drawn_BN += num_images * np.arange(_BLOCK_B, dtype=np.int32)[:, None]
        count_BN = np.bincount(drawn_BN.ravel(), minlength=_BLOCK_B * num_images).reshape(_BLOCK_B, num_images)
        count_NB = count_BN.T.astype(np.float32)  # sums of whole numbers below 2**24 are exact
        for r in range(0, num_rows, _BLOCK_R):
            rows_RN = score_RN[r : r + _BLOCK_R].astype(np.float32)
            mean_RB[r : r + _BLOCK_R, b : b + _BLOCK_B] = rows_RN @ count_NB
    return mean_RB / num_images


def _mean_and_scale(difference_SN: npt.NDArray[np.int8]) -> tuple[float, float]:
    """The mean, and what makes the bootstrap's spread about it that of a Student-t interval."""
    mean, (resampled, variance, freedom) = float(difference_SN.mean(axis=1).mean()), _variances(difference_SN)
    if resampled == 0 or difference_SN.shape[1] < 2:
        return mean, 1.0
    quantile = stdtrit(freedom, (1 + CONFIDENCE) / 2) / stats.norm.ppf((1 + CONFIDENCE) / 2)
    return mean, float(quantile * (variance / resampled) ** 0.5)


def _variances(difference_SN: npt.NDArray[np.int8]) -> tuple[float, float, float]:
    """Of the mean: its variance as the bootstrap has it, the same without bias, and the degrees of freedom of that."""
    num_seeds, num_images = difference_SN.shape
    mean_S, mean_N = difference_SN.mean(axis=1), difference_SN.mean(axis=0)
    mean = float(mean_S.mean())
    # Variances of the mean, as the bootstrap has them: of seeds, of images, of what is left
    seeds, images = float(mean_S.var()) / num_seeds, float(mean_N.var()) / num_images
    square = float(np.einsum("sn,sn->", difference_SN, difference_SN, dtype=np.int64)) / difference_SN.size
    rest = max(square - mean**2 - float(mean_S.var()) - float(mean_N.var()), 0.0) / difference_SN.size
    # The same without bias; the variance over seeds holds the rest already
    of_seeds = seeds * num_seeds / (num_seeds - 1)
    if num_images < 2:
        return seeds + images + rest, of_seeds, num_seeds - 1
    shrink = num_images / (num_images - 1)
    of_images = max((images - rest * num_seeds / (num_seeds - 1)) * shrink, 0.0)
    variance = of_seeds + of_images
    freedom = variance**2 / (of_seeds**2 / (num_seeds - 1) + of_images**2 / (num_images - 1)) if variance else np.inf
    return seeds + images + rest, variance, freedom
