"""Similarities drawn at random: the ranges, and the maps that uniform numbers stand for."""

import math
from dataclasses import dataclass

from torch import Tensor

from baselines.ranges import within
from experiments.networks.model import UsualModel
from stn.affine import from_parts
from stn.maps import AffineMap

DRAWS = 4
"""Uniform numbers that one map needs."""


@dataclass(frozen=True)
class SimilarityRanges(UsualModel):
    """Base of the models that draw similarities.

    max_deg: turns U(-max, max). max_scale: scale log-uniform between its inverse and itself, 1 or more.
    max_shift: fraction of the side, each axis U(-max, max).
    """

    max_deg: float = within(0, 180, 90.0)
    max_scale: float = within(1, 10, 1.2)
    max_shift: float = within(0, 1, 0.1)

    def maps(self, u_BK: Tensor) -> AffineMap:
        """The maps of these draws, (B, DRAWS)."""
        sign_BK = 2 * u_BK - 1
        return AffineMap(
            from_parts(
                angle_rad_B=sign_BK[:, 0] * math.radians(self.max_deg),
                log_scale_B=sign_BK[:, 1] * math.log(self.max_scale),
                shift_B2=sign_BK[:, 2:] * 2 * self.max_shift,  # the map is 2 wide
            )
        )
