"""Similarities drawn at random: the ranges, and the maps that uniform numbers stand for."""

import math
from dataclasses import dataclass

from torch import Tensor

from stn.affine import from_parts
from stn.maps import AffineMap

DRAWS = 4
"""Uniform numbers that one map needs."""


@dataclass(frozen=True)
class SimilarityRanges:
    """Base of the models that draw similarities.

    max_deg: turns U(-max, max). max_scale: scale log-uniform between its inverse and itself, 1 or more.
    max_shift: fraction of the side, each axis U(-max, max).
    """

    max_deg: float
    max_scale: float
    max_shift: float

    def __post_init__(self) -> None:
        if not 0 <= self.max_deg <= 180:
            raise ValueError(f"max_deg: {self.max_deg} is not between 0 and 180")
        if not 1 <= self.max_scale <= 10:
            raise ValueError(f"max_scale: {self.max_scale} is not between 1 and 10")
        if not 0 <= self.max_shift <= 1:
            raise ValueError(f"max_shift: {self.max_shift} is not between 0 and 1")

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
