"""A thin-plate-spline spatial transformer."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_tps")
@dataclass(frozen=True)
class StnTps(Stn):
    """Looks at each image through a thin-plate spline that it predicts. Source: Jaderberg et al. 2015, section 4.1."""

    family: ClassVar[str] = "tps"
