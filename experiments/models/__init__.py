"""Models: what trains, put together from the parts in stn/ and baselines/. One file each.

A model is a frozen dataclass whose fields are its hyper-parameters; `build` makes the network.

Legend: B images, C channels, H rows, W columns.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import nn

from baselines.registry import Registry

BuildBackbone = Callable[[float], nn.Module]
"""Builds the variant's backbone at a width; 1.0 is the published one. Seeded: it starts the same in every model."""


class Model(Protocol):
    """What every model offers."""

    def build(self, backbone: BuildBackbone, image_px: int) -> nn.ModuleDict:
        """The parts: `backbone`, from normalised images to logits, and where there is one `transformer`, called with
        raw and normalised images, which returns raw images.

        Raises ValueError if the images are too small for a part."""
        ...

    def lr_factors(self) -> Mapping[str, float]:
        """Learning rate of each part as a factor of the base rate; parts not named have 1."""
        ...


MODELS: Registry[Callable[..., Model]] = Registry("model", __name__)
