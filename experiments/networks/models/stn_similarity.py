"""A spatial transformer of similarities."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_similarity")
@dataclass(frozen=True)
class StnSimilarity(Stn):
    """A spatial transformer in front of the network; it chooses turns, scales and shifts. See stn/transformations/."""

    family: ClassVar[str] = "similarity"
