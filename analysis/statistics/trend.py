"""Whether a difference still changes with the size of training."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from analysis.statistics.equivalence import equivalence_p
from analysis.statistics.families import holm
from analysis.statistics.intervals import CONFIDENCE, Floats, mean_interval

Direction = Literal["settled", "moving", "turning", "open"]

MIN_TREND = 3
"""Seeds without which nothing is said of a trend."""


class Trend(NamedTuple):
    """What a claim's difference does from rung to rung.

    direction: `settled`: the last two rungs agree within the margin; `turning`: by the last rung, or by as much again,
        the difference has another sign than it had; `moving`: it changes; `open`: none of these is shown.
    p_settled, p_moving: of the tests of that, corrected for the family of claims; NaN with too few seeds.
    """

    direction: Direction
    p_settled: float
    p_moving: float


def trends(difference_CRS: npt.ArrayLike, alpha: float, margin: float) -> tuple[Trend, ...]:
    """Of a family of claims: paired differences of each claim C at rungs R, in rising order, over seeds S.

    A seed that a rung lacks (NaN) is left out at all of them. Settled: two one-sided t tests of the change from the
    last but one rung to the last. Moving: a t test of the same. Turning: t tests that the difference at one rung, and
    at a later one or after the same change once more, lie on two sides of zero; every rung counts as a test.
    So a wrong `settled` has a probability of alpha at most, and so have a wrong `moving` and a wrong `turning`. All are
    a second look at the claims, and correct for nothing but each other.
    """
    difference_CRS = np.asarray(difference_CRS, dtype=np.float64)
    difference_CRS = np.where(np.isnan(difference_CRS).any(axis=1, keepdims=True), np.nan, difference_CRS)
    change_CS = difference_CRS[:, -1] - difference_CRS[:, -2]
    forecast_CS = difference_CRS[:, -1] + change_CS
    enough_C = (~np.isnan(change_CS)).sum(axis=1) >= MIN_TREND
    p_settled_C = holm(np.where(enough_C, equivalence_p(change_CS, margin), np.nan))
    p_moving_C = holm(np.where(enough_C, t_test_p(change_CS), np.nan))
    place_CPS = np.concatenate([difference_CRS, forecast_CS[:, None]], axis=1)
    p_CP = holm(t_test_p(place_CPS).ravel()).reshape(place_CPS.shape[:2])
    found = []
    for c, enough in enumerate(enough_C):
        if not enough:
            found.append(Trend("open", np.nan, np.nan))
            continue
        signs = np.sign(np.nanmean(place_CPS[c], axis=1)) * (p_CP[c] <= alpha)
        turns = bool((signs > 0).any() and (signs < 0).any() and p_moving_C[c] <= alpha)
        direction: Direction = "open"
        if turns:
            direction = "turning"
        elif p_settled_C[c] <= alpha:
            direction = "settled"
        elif p_moving_C[c] <= alpha:
            direction = "moving"
        found.append(Trend(direction, float(p_settled_C[c]), float(p_moving_C[c])))
    return tuple(found)


def t_test_p(difference_XS: Floats) -> Floats:
    """Two-sided, of t tests that the means are 0; 1 with too few seeds. Without any scatter nothing is in doubt."""
    estimate = mean_interval(difference_XS)
    scatter_X = np.nanmax(difference_XS, axis=-1, initial=-np.inf) - np.nanmin(difference_XS, axis=-1, initial=np.inf)
    freedom_X = np.maximum(estimate.num_X - 1, 1)
    error_X = estimate.half_width_X / stdtrit(freedom_X, (1 + CONFIDENCE) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_X = 2 * stdtr(freedom_X, -np.abs(estimate.mean_X / error_X))
    p_X = np.where(scatter_X < 1e-12, np.abs(estimate.mean_X) < 1e-12, p_X)
    return np.where(estimate.num_X >= MIN_TREND, p_X, 1.0)
