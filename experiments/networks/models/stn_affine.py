"""An affine spatial transformer."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_affine")
@dataclass(frozen=True)
class StnAffine(Stn):
    """A spatial transformer in front of the network; it chooses affine maps: turns, scales, shears and shifts.

    Source: Jaderberg et al. 2015, equation 1.
    """

    family: ClassVar[str] = "affine"
