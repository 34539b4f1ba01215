"""Backbones: classifiers that a spatial transformer may stand in front of. One file each."""

from typing import Protocol

from torch import nn

from baselines.registry import Registry


class BuildBackbone(Protocol):
    """Builds a module that maps normalised images (B, C, H, W) to logits (B, num_classes).

    width: factor on the number of channels, 1.0 for the published network; every backbone honours it.
    Raises ValueError if the images are too small for the network.
    """

    def __call__(self, *, num_classes: int, image_px: int, in_channels: int, width: float) -> nn.Module: ...


BACKBONES: Registry[BuildBackbone] = Registry("backbone", __name__)
