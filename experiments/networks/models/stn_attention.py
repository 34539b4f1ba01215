"""A spatial transformer that crops."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_attention")
@dataclass(frozen=True)
class StnAttention(Stn):
    """A spatial transformer in front of the network; it chooses crops.

    Scales and shifts. Source: Jaderberg et al. 2015, eq. 2.
    """

    family: ClassVar[str] = "attention"
