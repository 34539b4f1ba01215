"""Where each of several entries stands for all that their seeds show, and what they could show.

Shape suffixes: E entries, P pairs of entries, i before j, in the order of itertools.combinations.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import nctdtrinc, stdtr, stdtrit

from analysis.statistics.families import holm
from analysis.statistics.seeds import POWER

_SAME = 1e-12
"""Sums of fractions that cancel leave less than that."""

_FAR = 10_000
"""Standard errors that no difference is found at."""


class Difference(NamedTuple):
    """Of two entries' means. error: its standard error, with so many degrees of freedom; NaN where there is none."""

    mean: float
    error: float
    freedom: float

    @property
    def p(self) -> float:
        """Of the two-sided t test that there is none; NaN where it could not be tested."""
        if np.isnan(self.error):
            return np.nan
        if self.error <= _SAME:
            return float(abs(self.mean) <= _SAME)
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))


def difference(one: Mapping[int, float], other: Mapping[int, float], *, paired: bool) -> Difference:
    """One entry's mean score less another's; scores are by seed.

    paired: a seed means the same luck to both: over the seeds that both have. Else the two are independent: Welch's
    standard error, with the degrees of freedom of Welch and Satterthwaite. Two scores of each are needed.

    Source: Welch 1947, The generalization of 'Student's' problem when several different population variances are
    involved.
    """
    if paired:
        difference_S = np.array([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())])
        mean = float(difference_S.mean()) if difference_S.size else np.nan
        if difference_S.size < 2:
            return Difference(mean, np.nan, np.nan)
        return Difference(mean, float(difference_S.std(ddof=1)) / difference_S.size**0.5, difference_S.size - 1)
    scores = [np.array(list(each.values())) for each in (one, other)]
    mean = float(scores[0].mean() - scores[1].mean()) if all(each.size for each in scores) else np.nan
    if min(each.size for each in scores) < 2:
        return Difference(mean, np.nan, np.nan)
    square_2 = np.array([each.var(ddof=1) / each.size for each in scores])
    num_2 = np.array([each.size for each in scores])
    freedom = square_2.sum() ** 2 / (square_2**2 / (num_2 - 1)).sum() if square_2.any() else num_2.sum() - 2
    return Difference(mean, float(square_2.sum()) ** 0.5, float(freedom))


class Standing(NamedTuple):
    """Where entries stand. rank_E: one more than the number of entries that are shown to be better.

    last_E: the rank that it has at worst: the number of entries less that of those that are shown to be worse. The
    true ranks of all entries, by their true means, are from rank_E to last_E with probability 1 - alpha at least.
    """

    rank_E: npt.NDArray[np.int64]
    last_E: npt.NDArray[np.int64]


def standing(difference_P: Sequence[Difference], may_count_P: Sequence[bool], alpha: float) -> Standing:
    """Where the entries stand whose pairs these are. may_count_P: whether a difference may be called one.

    All pairs are one family: the probability that any of them is called wrongly is at most alpha (Holm).

    Source: Mogstad, Romano, Shaikh and Wilhelm 2024, Inference for ranks, for the intervals that follow from pairs.
    """
    num = round((1 + (1 + 8 * len(difference_P)) ** 0.5) / 2)
    p_P = holm([each.p if may else np.nan for each, may in zip(difference_P, may_count_P, strict=True)])
    rank_E, last_E = np.ones(num, np.int64), np.full(num, num)
    for (i, j), each, p in zip(combinations(range(num), 2), difference_P, p_P, strict=True):
        if p <= alpha:
            better, worse = (i, j) if each.mean > 0 else (j, i)
            rank_E[worse] += 1
            last_E[better] -= 1
    return Standing(rank_E, last_E)


def resolution(difference_P: Sequence[Difference], num_pairs: int, alpha: float) -> float:
    """The smallest true difference that `standing` finds with probability POWER, between two entries like these.

    num_pairs: of the whole family. The standard error is the root mean square over these pairs, and its degrees of
    freedom are the median; the level is alpha / num_pairs, which is Holm's first and hardest step. NaN where no pair
    could be tested; infinite where the level is out of reach, as with two seeds and thousands of pairs.
    """
    error_P, freedom_P = (np.array([each[part] for each in difference_P]) for part in (1, 2))
    tested_P = ~np.isnan(error_P) if len(error_P) else np.zeros(0, bool)
    if not tested_P.any():
        return np.nan
    error, freedom = float(np.sqrt((error_P[tested_P] ** 2).mean())), float(np.median(freedom_P[tested_P]))
    t = stdtrit(freedom, 1 - alpha / num_pairs / 2)
    return error * float(nctdtrinc(freedom, 1 - POWER, t)) if t < _FAR else np.inf  # scipy would not come back
