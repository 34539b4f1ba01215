"""A spatial transformer of rotations."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_rotation")
@dataclass(frozen=True)
class StnRotation(Stn):
    """A spatial transformer in front of the network; it chooses turns. See stn/transformations/."""

    family: ClassVar[str] = "rotation"
