"""The baseline: the backbone alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from experiments.models import MODELS, BuildBackbone


@MODELS.register("cnn")
@dataclass(frozen=True)
class PlainCNN:
    """The backbone alone."""

    def build(self, backbone: BuildBackbone, image_px: int) -> nn.ModuleDict:
        return nn.ModuleDict({"backbone": backbone(1.0)})

    def lr_factors(self) -> Mapping[str, float]:
        return {}
