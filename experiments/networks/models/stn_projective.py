"""A spatial transformer of projective maps."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_projective")
@dataclass(frozen=True)
class StnProjective(Stn):
    """A spatial transformer in front of the network; it chooses projective maps: changes of perspective.

    Source: Jaderberg et al. 2015, section 4.1.
    """

    family: ClassVar[str] = "projective"
