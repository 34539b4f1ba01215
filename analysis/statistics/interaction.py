"""Whether two changes add up."""

import numpy as np
import numpy.typing as npt

from analysis.statistics.intervals import Estimate, mean_interval


def interaction(
    both_XS: npt.ArrayLike, one_XS: npt.ArrayLike, other_XS: npt.ArrayLike, neither_XS: npt.ArrayLike
) -> Estimate:
    """Mean of (both - one) - (other - neither) over seeds that all four have, with its Student-t interval.

    Above zero: together the two changes gain more than the sum of what each gains alone. Column s of all arrays must be
    the same seed; a seed that any of them lacks (NaN) is left out.
    """
    both_XS, one_XS, other_XS, neither_XS = (
        np.asarray(score_XS, dtype=np.float64) for score_XS in (both_XS, one_XS, other_XS, neither_XS)
    )
    return mean_interval((both_XS - one_XS) - (other_XS - neither_XS))
