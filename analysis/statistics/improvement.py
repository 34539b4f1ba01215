"""How often one variant's runs beat another's."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.intervals import CONFIDENCE

NUM_RESAMPLES = 2_000


class Improvement(NamedTuple):
    """A probability and its interval; all is NaN under two seeds of any task, and the ends under three."""

    probability: float
    low: float
    high: float


def probability_of_improvement(
    score_TS: npt.ArrayLike, baseline_TS: npt.ArrayLike, *, num_resamples: int = NUM_RESAMPLES
) -> Improvement:
    """Probability that a run beats one of the baseline, of another seed; the mean over tasks (or one row of seeds).

    Ties count half. Column s of both arrays must be the same seed: what a seed shares between both, such as the split
    of the data, would make runs of one seed dependent, so these are not compared. A seed that either lacks (NaN) is
    left out of its task. The interval is a percentile bootstrap that resamples the seeds of each task; where one beats
    the other in every comparison it has no width. num_resamples: 0 for no interval.

    Source: Agarwal et al. 2021, Deep reinforcement learning at the edge of the statistical precipice
    (arXiv:2108.13264), section 4.3, where runs are not paired.
    """
    score_TS, baseline_TS = (np.atleast_2d(np.asarray(s, dtype=np.float64)) for s in (score_TS, baseline_TS))
    rng = np.random.default_rng(0)
    probability_T, resampled_TB, fewest = [], [], score_TS.shape[1]
    for score_S, baseline_S in zip(score_TS, baseline_TS, strict=True):
        pair_S = ~np.isnan(score_S + baseline_S)
        num = int(pair_S.sum())
        fewest = min(fewest, num)
        if num < 2:
            return Improvement(np.nan, np.nan, np.nan)
        win_SS = (np.sign(np.round(score_S[pair_S, None] - baseline_S[pair_S], 12)) + 1) / 2
        np.fill_diagonal(win_SS, 0)
        probability_T.append(win_SS.sum() / (num * (num - 1)))
        count_BS = rng.multinomial(num, np.full(num, 1 / num), num_resamples).astype(np.float64)
        num_compared_B = num**2 - (count_BS**2).sum(axis=-1)  # none, where one seed was drawn every time
        won_B = ((count_BS @ win_SS) * count_BS).sum(axis=-1)
        resampled_TB.append(np.where(num_compared_B > 0, won_B / np.maximum(num_compared_B, 1), np.nan))
    if fewest < 3 or not num_resamples:
        return Improvement(float(np.mean(probability_T)), np.nan, np.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(np.mean(resampled_TB, axis=0), [tail, 1 - tail])
    return Improvement(float(np.mean(probability_T)), float(low), float(high))
