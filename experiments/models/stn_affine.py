"""An affine spatial transformer in front of the backbone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from experiments.models import MODELS, BuildBackbone
from stn import AffineTransformer, LeNetLocalisation


@MODELS.register("stn_affine")
@dataclass(frozen=True)
class StnAffine:
    """Looks at each image through an affine map that it predicts, then classifies what it sees.

    loc_lr_factor: learning rate of the localisation network as a factor of the base rate.
    Source: Jaderberg et al. 2015, Spatial Transformer Networks; the factor 0.1: section 4.2.
    """

    loc_lr_factor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.loc_lr_factor < math.inf:
            raise ValueError(f"loc_lr_factor: {self.loc_lr_factor} is not a number of 0 or more")

    def build(self, backbone: BuildBackbone, image_px: int) -> nn.ModuleDict:
        transformer = AffineTransformer(LeNetLocalisation(in_channels=3, num_params=6, image_px=image_px))
        return nn.ModuleDict({"transformer": transformer, "backbone": backbone(1.0)})

    def lr_factors(self) -> Mapping[str, float]:
        return {"transformer": self.loc_lr_factor}
