"""A spatial transformer of rotations."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_rotation")
@dataclass(frozen=True)
class StnRotation(Stn):
    """Looks at each image through a turn that it predicts; see stn/transformations/."""

    family: ClassVar[str] = "rotation"
