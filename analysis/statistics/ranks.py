"""Ranks of variants over several tasks, and the shares of their runs above each score.

Shape suffixes: T tasks, V variants, S seeds, R runs, B resamples, K scores.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from analysis.statistics.bca import Interval
from analysis.statistics.intervals import CONFIDENCE, Floats

NUM_RESAMPLES = 9_999
_ENDS = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]


class Ranks(NamedTuple):
    """Ranks by mean score, the highest first; equal means share the mean of their ranks.

    rank_TV: in each task. mean_V: over tasks, each of which counts the same. of_seeds: how mean_V scatters when the
    seeds of each task are drawn again. of_tasks: likewise when tasks are drawn again as well. Both hold CONFIDENCE of
    the draws, and neither is a confidence interval of the rank of the true means.
    """

    rank_TV: Floats
    mean_V: Floats
    of_seeds: Interval
    of_tasks: Interval


def ranks(score_TVS: Sequence[Floats], same_T: Sequence[Hashable]) -> Ranks:
    """Ranks of the mean scores over seeds in each task, by a percentile bootstrap.

    score_TVS: of each task variants by seeds, none missing; column s is the same seed for all variants of a task, and
    they are drawn together. same_T: what is alike counts as one where tasks are drawn, such as two sizes of training
    on the same images. A rank is 1 for the highest mean. Where variants are close, chance pulls the ranks in the data
    apart, those of drawn seeds lie around these, and the rank of the true means is often outside; more tasks make it
    worse. The same scores always give the same intervals.

    Source: Agarwal et al. 2021, Deep reinforcement learning at the edge of the statistical precipice
    (arXiv:2108.13264), section 4: runs are drawn within each task.
    """
    draw = np.random.default_rng(0)
    rank_TV = np.array([_ranked(score_VS.mean(axis=1)) for score_VS in score_TVS])
    drawn_TBV = np.array([_drawn(score_VS, draw) for score_VS in score_TVS])
    _, group_T = np.unique([str(each) for each in same_T], return_inverse=True)
    num_groups = int(group_T.max()) + 1
    times_BT = draw.multinomial(num_groups, np.full(num_groups, 1 / num_groups), NUM_RESAMPLES)[:, group_T]
    other_BV = np.einsum("bt,tbv->bv", times_BT, drawn_TBV) / times_BT.sum(axis=1, keepdims=True)
    of_seeds, of_tasks = (Interval(*np.quantile(each, _ENDS, axis=0)) for each in (drawn_TBV.mean(axis=0), other_BV))
    return Ranks(rank_TV, rank_TV.mean(axis=0), of_seeds, of_tasks)


def _drawn(score_VS: Floats, draw: np.random.Generator) -> Floats:
    """BV: ranks of the means over seeds that are drawn with replacement, the same for all variants."""
    seed_BS = draw.integers(score_VS.shape[1], size=(NUM_RESAMPLES, score_VS.shape[1]))
    return _ranked(score_VS[:, seed_BS].mean(axis=-1).T)


def _ranked(mean_XV: Floats) -> Floats:
    """Rounded: means of the same scores in another order differ in their last digits."""
    return np.asarray(rankdata(-np.round(mean_XV, 12), axis=-1), dtype=np.float64)


class Profile(NamedTuple):
    """share_VK: of runs above each score, the mean over tasks; low_VK to high_VK: at CONFIDENCE, for each score."""

    share_VK: Floats
    low_VK: Floats
    high_VK: Floats


def profile(score_TVR: Sequence[Sequence[npt.ArrayLike]], above_K: npt.ArrayLike) -> Profile:
    """The share of runs above each score, in which every task counts the same however many runs it has.

    score_TVR: for each task, for each variant, the scores of its runs, at least one. The bounds draw runs with
    replacement within each task: of the R runs of a task, of which a share is above, a binomial number is again.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.2, after Dolan and Moré 2002, Benchmarking optimization
    software with performance profiles.
    """
    draw, above_K = np.random.default_rng(0), np.asarray(above_K, dtype=np.float64)
    share, low, high = [], [], []
    for runs_TR in zip(*score_TVR, strict=True):  # of a variant
        share_TK = np.array([(np.asarray(runs_R)[:, None] > above_K).mean(axis=0) for runs_R in runs_TR])
        num_T = [np.size(runs_R) for runs_R in runs_TR]
        drawn_TBK = [
            draw.binomial(num, share_K, (NUM_RESAMPLES // 5, above_K.size)) / num
            for num, share_K in zip(num_T, share_TK, strict=True)
        ]
        share.append(share_TK.mean(axis=0))
        ends_2K = np.quantile(np.mean(drawn_TBK, axis=0), _ENDS, axis=0)
        low.append(ends_2K[0])
        high.append(ends_2K[1])
    return Profile(np.array(share), np.array(low), np.array(high))
