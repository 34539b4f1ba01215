"""What trains: from a batch of raw pixels to logits, and what a transformer in it looks at.

Legend: B images, C channels, H rows, W columns, K uniform numbers an image, X logits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.backbones import Backbone
from baselines.whitening import Whitening
from experiments.images.poses import PoseMaps, no_pose
from stn.localisation import LOCALISATIONS, started_at_zero
from stn.maps import Map
from stn.sampler import Sampler


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers in the module."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@dataclass(frozen=True)
class Batch:
    """What a network is given.

    raw_BCHW: pixels in [0, 1].
    poses: the true poses of the images; only controls may look at them.
    u_BK: uniform numbers in [0, 1) for networks that draw, as many as the model asks for.
    progress: share of training that is done; 1 in evaluation.
    labels_B: the images' classes, in training; None in evaluation.
    """

    raw_BCHW: Tensor
    poses: PoseMaps
    u_BK: Tensor
    progress: float = 1.0
    labels_B: Tensor | None = None

    def __len__(self) -> int:
        return len(self.raw_BCHW)

    @classmethod
    def of(cls, raw_BCHW: Tensor, num_draws: int = 0) -> "Batch":
        """Images of no known pose, with draws of one half."""
        # shape[0], since len() would fix it while a model is exported
        u_BK = torch.full((raw_BCHW.shape[0], num_draws), 0.5, device=raw_BCHW.device)
        return cls(raw_BCHW, no_pose(raw_BCHW.shape[0], raw_BCHW.device), u_BK)


Localisation = Literal["lenet", "paper", "deep", "backbone"]
"""Those of stn/localisation.py; and a second network of the variant's own kind, which is trained as that one is."""


@dataclass(frozen=True)
class Site:
    """Where a model is built: the images, and the backbone that the variant names.

    build_backbone: takes width, image_px, in_channels and the number of outputs; seeded, so that it starts the same in
        every model.
    mean_C, std_C: of the training images, pixels in [0, 1].
    """

    build_backbone: Callable[[float, int, int, int], Backbone]
    image_px: int
    num_classes: int
    mean_C: Tensor
    std_C: Tensor

    @property
    def num_channels(self) -> int:
        return len(self.mean_C)

    def backbone(self, width: float = 1.0, *, image_px: int | None = None, in_channels: int | None = None) -> Backbone:
        """The variant's backbone for these images, or for images of another size or number of channels."""
        return self.build_backbone(width, image_px or self.image_px, in_channels or self.num_channels, self.num_classes)

    def localisation(self, name: Localisation, num_outputs: int, *, image_px: int | None = None) -> nn.Module:
        """A network for these images, or for images of another size, that gives so many numbers, at its start zeros.

        Raises ValueError if the images are too small for it.
        """
        image_px = image_px or self.image_px
        if name == "backbone":
            return started_at_zero(self.build_backbone(1.0, image_px, self.num_channels, num_outputs))
        return LOCALISATIONS[name](self.num_channels, num_outputs, image_px)


class Network(nn.Module):
    """Normalisation and backbone. Subclasses put more around, before or into the backbone.

    Each part that may have a learning rate of its own is a child module of the network, under its name.
    num_draws: uniform numbers in [0, 1) that it needs for each image of a batch, as its model says.
    num_heads: how many maps it has for an image, if it has any.
    """

    num_draws: int = 0
    num_heads: int = 1

    def __init__(self, site: Site, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = site.num_classes
        self.gain_1C11: Tensor
        self.offset_1C11: Tensor
        # One fused multiply and add in place of a subtraction and a division of every pixel.
        self.register_buffer("gain_1C11", (1 / site.std_C).view(1, -1, 1, 1))
        self.register_buffer("offset_1C11", (-site.mean_C / site.std_C).view(1, -1, 1, 1))

    @property
    def num_channels(self) -> int:
        """Channels of the images that it takes: 1 for grey ones, else 3."""
        return self.gain_1C11.shape[1]

    def normalise(self, raw_BCHW: Tensor) -> Tensor:
        # Spread over one image first: a CPU is slow at factors that repeat after every C values in memory.
        gain_1CHW, offset_1CHW = (
            factor_1C11.expand(1, *raw_BCHW.shape[1:]).contiguous(memory_format=torch.channels_last)
            for factor_1C11 in (self.gain_1C11, self.offset_1C11)
        )
        return torch.addcmul(offset_1CHW, raw_BCHW, gain_1CHW)

    def whiten(self, raw_BCHW: Tensor) -> None:
        """Before training, set the layers that whiten by a sample of the training images."""
        for layer in self.modules():
            if isinstance(layer, Whitening):
                layer.fit(self.normalise(raw_BCHW))

    def maps(self, batch: Batch) -> list[Map] | None:
        """The transformer's maps from output to input coordinates, for each head; None without a transformer."""
        return None

    def look(self, batch: Batch) -> Tensor | None:
        """Raw pixels as the rest of the network sees them, the first head's; None without a transformer."""
        return None

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, num_classes) of what there is to see."""
        seen_BCHW = self.look(batch)
        return self.backbone(self.normalise(batch.raw_BCHW if seen_BCHW is None else seen_BCHW))

    def logits_and_penalty(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """For a training step: the logits, and what is to be added to the classification loss, if anything."""
        return self(batch), None


class GivenMapsNetwork(Network):
    """A backbone behind maps that are not learned. choose: gives a batch its maps."""

    def __init__(self, site: Site, choose: Callable[[Batch], Map]) -> None:
        super().__init__(site, site.backbone())
        self.choose = choose

    def maps(self, batch: Batch) -> list[Map]:
        return [self.choose(batch)]

    def look(self, batch: Batch) -> Tensor:
        return Sampler()(batch.raw_BCHW, self.choose(batch))
