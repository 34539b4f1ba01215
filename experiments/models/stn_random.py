"""A floor: a transformer whose maps are drawn at random, in training and in evaluation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from experiments.models import MODELS
from experiments.models.stn_frozen import GivenMapsNetwork
from experiments.network import Batch, Network, Site
from stn.affine import from_parts
from stn.maps import AffineMap, Map


@MODELS.register("stn_random")
@dataclass(frozen=True)
class StnRandom:
    """The backbone behind similarities that know nothing of the image: what moving images about does by itself.

    max_deg: turns U(-max, max). max_scale: scale log-uniform between its inverse and itself, 1 or more.
    max_shift: fraction of the side, each axis U(-max, max).
    """

    num_draws: ClassVar[int] = 4
    max_deg: float = 90.0
    max_scale: float = 1.2
    max_shift: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.max_deg <= 180:
            raise ValueError(f"max_deg: {self.max_deg} is not between 0 and 180")
        if not 1 <= self.max_scale <= 10:
            raise ValueError(f"max_scale: {self.max_scale} is not between 1 and 10")
        if not 0 <= self.max_shift <= 1:
            raise ValueError(f"max_shift: {self.max_shift} is not between 0 and 1")

    def build(self, site: Site) -> Network:
        return RandomNetwork(site, self)

    def lr_factors(self) -> Mapping[str, float]:
        return {}


class RandomNetwork(GivenMapsNetwork):
    """A backbone behind maps made from the batch's uniform numbers."""

    def __init__(self, site: Site, ranges: StnRandom) -> None:
        super().__init__(site, site.backbone())
        self.ranges = ranges

    def maps(self, batch: Batch) -> list[Map]:
        sign_B4 = 2 * batch.u_BK - 1
        return [
            AffineMap(
                from_parts(
                    angle_rad_B=sign_B4[:, 0] * math.radians(self.ranges.max_deg),
                    log_scale_B=sign_B4[:, 1] * math.log(self.ranges.max_scale),
                    shift_B2=sign_B4[:, 2:] * 2 * self.ranges.max_shift,
                )
            )
        ]
