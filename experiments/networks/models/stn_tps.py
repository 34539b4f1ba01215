"""A thin-plate-spline spatial transformer."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_tps")
@dataclass(frozen=True)
class StnTps(Stn):
    """A spatial transformer in front of the network; it chooses smooth bends.

    Thin-plate splines. Source: Jaderberg et al. 2015, section 4.1.
    """

    family: ClassVar[str] = "tps"
