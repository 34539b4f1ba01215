"""A spatial transformer of similarities."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_similarity")
@dataclass(frozen=True)
class StnSimilarity(Stn):
    """Looks at each image through a turn, a scale and a shift that it predicts; see stn/transformations/."""

    family: ClassVar[str] = "similarity"
