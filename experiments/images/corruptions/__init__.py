"""Corruptions: ways in which images are disturbed after training, at five severities, to see what a network withstands.

What they do to values is that of CIFAR-10-C, with its constants, made on the fly: Hendrycks & Dietterich 2019,
Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, arXiv:1903.12261, and the program that
made the set (hendrycks/robustness, make_cifar_c.py). Left out are those that need pictures or fractals: glass and zoom
blur, snow, frost, fog, spatter. Values stay real numbers; the stored set has them cut to 8 bits.
What they do to geometry is our own choice, but for the elastic one's idea.

All lengths are those of 32-pixel images, and in proportion for others.

Legend: B images, C channels, H rows, W columns, P pixels of an image, M of all images, K uniform numbers an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.registry import Registry
from experiments.images.draws import uniform
from experiments.images.poses import PoseMaps

SEVERITIES = (1, 2, 3, 4, 5)
CIFAR_PX = 32
MAX_COUNTERS = 2**18

Level = Any
"""What a severity stands for: a number, or several."""


@dataclass(frozen=True)
class Corruption:
    """One way to disturb images.

    kind: geometric if pixels are moved, photometric if values are changed.
    change: from images in [0, 1], uniform numbers and a level to the disturbed images, which need not be in [0, 1]; of
        a geometric one, from uniform numbers, the images' side and a level to the maps under which they are sampled.
    levels: what severities 1 to 5 stand for.
    num_draws: uniform numbers that an image needs; "values": one for each of its values.
    is_extra: left out of a quick measurement.
    """

    kind: Literal["geometric", "photometric"]
    change: Callable[..., Any]
    levels: Sequence[Level]
    num_draws: int | Literal["values"]
    is_extra: bool

    def draw(self, name: str, index_B: Tensor, shape_CHW: torch.Size) -> Tensor:
        """Uniform numbers for these images, the same for all severities: (B, K), or (B, C, H, W) for "values".

        index_B: which images of the part they are; the numbers are functions of that and of the name alone.
        """
        purpose = f"corruption {name}"
        if self.num_draws != "values":
            return uniform(index_B, self.num_draws, seed=0, epoch=0, purpose=purpose)
        channels, height, width = shape_CHW
        pixel_P = torch.arange(height * width, device=index_B.device)
        counter_BP = index_B[:, None] * len(pixel_P) + pixel_P
        # In pieces: the words of a draw take ten times the memory of what comes out.
        pieces = counter_BP.flatten().split(MAX_COUNTERS)
        u_MC = torch.cat([uniform(piece_M, channels, seed=0, epoch=0, purpose=purpose) for piece_M in pieces])
        return u_MC.view(-1, height, width, channels).permute(0, 3, 1, 2)


CORRUPTIONS: Registry[Corruption] = Registry("corruption", __name__)

Paint = Callable[[Tensor, Tensor, Any], Tensor]
Move = Callable[[Tensor, int, Any], PoseMaps]


def photometric(
    name: str, *levels: Level, num_draws: int | Literal["values"] = 0, is_extra: bool = False
) -> Callable[[Paint], Paint]:
    """Decorate what changes values: a function of images (B, C, H, W), uniform numbers and the severity's level."""

    def register(change: Paint) -> Paint:
        CORRUPTIONS.register(name)(Corruption("photometric", change, levels, num_draws, is_extra))
        return change

    return register


def geometric(name: str, *levels: Level, num_draws: int) -> Callable[[Move], Move]:
    """Decorate what moves pixels: from uniform numbers (B, K), the images' side and a level to maps from the disturbed
    images' coordinates to the images'. Outside is black."""

    def register(change: Move) -> Move:
        CORRUPTIONS.register(name)(Corruption("geometric", change, levels, num_draws, is_extra=False))
        return change

    return register
