"""How often one variant's runs beat another's."""

import numpy as np
import numpy.typing as npt


def probability_of_improvement(score_S: npt.ArrayLike, baseline_S: npt.ArrayLike) -> float:
    """Probability that a run beats one of the baseline, of another seed; NaN under two seeds.

    Ties count half. Column s of both arrays must be the same seed: what a seed shares between both, such as the split
    of the data, would make runs of one seed dependent, so these are not compared. A seed that either lacks (NaN) is
    left out.

    Source: Agarwal et al. 2021, Deep reinforcement learning at the edge of the statistical precipice
    (arXiv:2108.13264), section 4.3, where runs are not paired.
    """
    score_S, baseline_S = (np.asarray(s, dtype=np.float64) for s in (score_S, baseline_S))
    pair_S = ~np.isnan(score_S + baseline_S)
    num = int(pair_S.sum())
    if num < 2:
        return float("nan")
    win_SS = (np.sign(np.round(score_S[pair_S, None] - baseline_S[pair_S], 12)) + 1) / 2
    np.fill_diagonal(win_SS, 0)
    return float(win_SS.sum() / (num * (num - 1)))
