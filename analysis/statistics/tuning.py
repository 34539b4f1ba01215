"""What tuning for longer would have brought."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from analysis.statistics.intervals import CONFIDENCE, Floats

NUM_RESAMPLES = 2_000


class TuningBudget(NamedTuple):
    """For budgets of 1, 2, ... all trials: the best score to expect, and the ends of its interval."""

    best_N: Floats
    low_N: Floats
    high_N: Floats


def tuning_budget(score_N: npt.ArrayLike) -> TuningBudget:
    """The expected best score of n of the N trials, for each n: unbiased for the best of n new trials of the same kind.

    The sum over i of v_i * C(i - 1, n - 1) / C(N, n), v ascending. Only for trials that are independent draws: those of
    a random search. A trial without a score (NaN) is left out; one that failed cost
    its share of the budget too, so give it the score that failing is worth. The interval is a percentile bootstrap over
    trials; towards n = N it is too narrow, since nothing better than the best trial can be drawn.

    Source: Tang et al. 2020, Showing your work doesn't always work (arXiv:2004.13705), section 3; the question is from
    Dodge et al. 2019, Show your work (arXiv:1909.03004).
    """
    all_N = np.asarray(score_N, dtype=np.float64)
    score_N = all_N[~np.isnan(all_N)]
    num = score_N.size
    if not num:
        return TuningBudget(*np.empty((3, 0)))
    weight_NN = _weights(num)
    drawn_BN = np.random.default_rng(0).choice(score_N, (NUM_RESAMPLES, num))
    low_N, high_N = np.quantile(
        np.sort(drawn_BN, axis=1) @ weight_NN.T, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0
    )
    return TuningBudget(weight_NN @ np.sort(score_N), low_N, high_N)


def _weights(num: int) -> Floats:
    """C(i - 1, n - 1) / C(num, n): a row for each n, a column for each i, both from 1."""
    n_N1, i_N = np.arange(1, num + 1)[:, None], np.arange(1, num + 1)
    with np.errstate(invalid="ignore"):
        log_NN = _log_choose(i_N - 1, n_N1 - 1) - _log_choose(np.array(num), n_N1)
    return np.where(i_N >= n_N1, np.exp(np.where(i_N >= n_N1, log_NN, 0.0)), 0.0)


def _log_choose(total: npt.NDArray[np.int64], part: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(gammaln(total + 1) - gammaln(part + 1) - gammaln(total - part + 1), dtype=np.float64)
