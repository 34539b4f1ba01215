"""The test that a difference is too small to matter."""

import math

import numpy as np
import numpy.typing as npt
from statsmodels.stats.weightstats import DescrStatsW

from analysis.statistics.intervals import Floats


def equivalence_p(difference_XS: npt.ArrayLike, margin: float) -> Floats:
    """p-values of the two one-sided t tests (TOST) that the mean difference lies outside -margin to margin.

    margin: in the unit of the differences. A small p says that the difference does not matter. NaN differences are no
    pairs; NaN under two pairs. Differences that are all the same leave no doubt: 0 within the margin, else 1.

    Source: Schuirmann 1987, A comparison of the two one-sided tests procedure and the power approach.
    """
    difference_XS = np.asarray(difference_XS, dtype=np.float64)
    flat_XS = difference_XS.reshape(math.prod(difference_XS.shape[:-1]), difference_XS.shape[-1])
    num_X = (~np.isnan(flat_XS)).sum(axis=-1)
    p_X = np.full(len(flat_XS), np.nan)
    for num in np.unique(num_X[num_X >= 2]):
        rows = np.flatnonzero(num_X == num)
        kept_XS = np.sort(flat_XS[rows], axis=-1)[:, :num]  # NaN sorts last, and order does not matter
        same_X = np.ptp(kept_XS, axis=-1) < 1e-12  # but for rounding
        p_X[rows[same_X]] = np.where(np.abs(kept_XS[same_X, 0]) < margin, 0.0, 1.0)
        if not same_X.all():
            p_X[rows[~same_X]] = DescrStatsW(kept_XS[~same_X].T).ttost_mean(-margin, margin)[0]
    return p_X.reshape(difference_XS.shape[:-1])
