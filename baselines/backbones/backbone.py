"""What a backbone is, and the registry of all of them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from baselines.registry import Registry


class Backbone(nn.Module):
    """Stages that turn images into feature maps, and a head that turns the last map into logits.

    stages: in order; between any two of them another method may look at the map or warp it.
    head: from the last map to (B, num_classes).
    lr_factors: by parameter's name, its learning rate as a factor of the backbone's; 1 for those not named.
    """

    lr_factors: Mapping[str, float] = {}

    def __init__(self, stages: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.head = head

    def features(self, x_BCHW: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """The map after stages start to stop (not included; all that are left by default)."""
        for stage in self.stages[start:stop]:
            x_BCHW = stage(x_BCHW)
        return x_BCHW

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) to logits (B, num_classes)."""
        return self.head(self.features(x_BCHW))

    def map_shape(self, num_stages: int, image_px: int, in_channels: int = 3) -> tuple[int, int]:
        """Channels and side of the map after so many stages, for square images."""
        was_training = self.training
        self.eval()  # leaves the statistics of normalisation alone
        with torch.no_grad():
            device = next(self.parameters()).device
            map_BCHW = self.features(torch.zeros(1, in_channels, image_px, image_px, device=device), stop=num_stages)
        self.train(was_training)
        return map_BCHW.shape[1], map_BCHW.shape[2]


class BuildBackbone(Protocol):
    """Builds a network from normalised images (B, C, H, W) to logits (B, num_classes).

    width: factor on the number of channels, 1.0 for the published network; every backbone honours it.
    Raises ValueError if the images are too small for the network.
    """

    def __call__(self, *, num_classes: int, image_px: int, in_channels: int, width: float) -> Backbone: ...


BACKBONES: Registry[BuildBackbone] = Registry("backbone", "baselines.backbones")
