"""Which of several is the best, and which cannot be told apart from it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr  # scipy.stats has the same number, and three times the import time

from analysis.statistics.families import holm
from analysis.statistics.intervals import Floats, paired_difference


@dataclass(frozen=True)
class Best:
    """The best of several and how sure that is.

    index: of the best mean; None where there is no score. p_A: of each one's difference to the best, corrected for
    their number; NaN for the best itself and where it could not be tested.
    """

    index: int | None
    p_A: Floats

    def tied(self, alpha: float) -> npt.NDArray[np.bool_]:
        """A: those that are not told apart from the best, be it for want of pairs; never the best itself."""
        tied_A = ~(self.p_A <= alpha)
        if self.index is not None:
            tied_A[self.index] = False
        return tied_A


def best_of(score_AS: npt.ArrayLike, *, smaller_is_better: bool = False) -> Best:
    """The best mean of A over seeds S (NaN: no score), each other one compared with it by a two-sided paired t test.

    Holm's method corrects for the number of comparisons. A mean over one seed is the best only where all are.
    Differences that are the same for every seed have p = 0, or p = 1 where they are zero.
    """
    score_AS = np.asarray(score_AS, dtype=np.float64)
    num_A = (~np.isnan(score_AS)).sum(axis=1)
    p_A = np.full(len(score_AS), np.nan)
    if not num_A.any():
        return Best(None, p_A)
    mean_A = np.where(num_A > 0, np.nansum(score_AS, axis=1) / np.maximum(num_A, 1), np.nan)
    eligible_A = num_A > 1 if (num_A > 1).any() else num_A > 0
    index = int(np.argmax(np.where(eligible_A, -mean_A if smaller_is_better else mean_A, -np.inf)))
    difference = paired_difference(score_AS, score_AS[[index]])
    difference_AS = score_AS - score_AS[[index]]
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation_AS = difference_AS - difference.mean_X[:, None]
        error_A = np.sqrt(np.nansum(deviation_AS**2, axis=1) / (difference.num_X - 1) / difference.num_X)
        t_A = np.where(np.abs(difference.mean_X) > 1e-12, np.abs(difference.mean_X) / error_A, 0.0)
    p_A = np.where(difference.num_X > 1, 2 * stdtr(np.maximum(difference.num_X - 1, 1), -t_A), np.nan)
    p_A[index] = np.nan
    tested_A = ~np.isnan(p_A)
    p_A[tested_A] = holm(p_A[tested_A])
    return Best(index, p_A)
