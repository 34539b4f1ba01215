"""A spatial transformer of translations."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_translation")
@dataclass(frozen=True)
class StnTranslation(Stn):
    """A spatial transformer in front of the network; it chooses shifts. Source: Jaderberg et al. 2015, section 3.2."""

    family: ClassVar[str] = "translation"
