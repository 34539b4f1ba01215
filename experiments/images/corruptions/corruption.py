"""What a corruption is, and the registry of all of them.

Legend: B images, C channels, H rows, W columns, P pixels of an image, M of all images, K uniform numbers an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from baselines.registry import Registry
from experiments.images.draws import uniform

SEVERITIES = (1, 2, 3, 4, 5)
CIFAR_PX = 32
MAX_COUNTERS = 2**18


@dataclass(frozen=True)
class Corruption:
    """One way to disturb images.

    kind: geometric if pixels are moved, photometric if values are changed.
    change: photometric: from images (B, C, H, W) in [0, 1], uniform numbers and a level to the disturbed images, which
        need not be in [0, 1]. Geometric: from uniform numbers (B, K), the images' side and a level to the PoseMaps
        under which they are sampled, from the disturbed images' coordinates to theirs; outside is black.
    levels: what severities 1 to 5 stand for: a number each, or several.
    num_draws: uniform numbers that an image needs; "values": one for each of its values.
    is_extra: left out of a quick measurement.
    """

    kind: Literal["geometric", "photometric"]
    change: Callable[..., Any]
    levels: Sequence[Any]
    num_draws: int | Literal["values"]
    is_extra: bool

    def draw(self, name: str, index_B: Tensor, shape_CHW: torch.Size) -> Tensor:
        """Uniform numbers for these images, the same for all severities: (B, K), or (B, C, H, W) for "values".

        index_B: which images of the part they are; the numbers are functions of that and of the name alone.
        """
        numbers = partial(uniform, seed=0, epoch=0, purpose=f"corruption {name}")
        if self.num_draws != "values":
            return numbers(index_B, self.num_draws)
        channels, height, width = shape_CHW
        pixel_P = torch.arange(height * width, device=index_B.device)
        counter_BP = index_B[:, None] * len(pixel_P) + pixel_P
        # In pieces: the words of a draw take ten times the memory of what comes out.
        u_MC = torch.cat([numbers(piece_M, channels) for piece_M in counter_BP.flatten().split(MAX_COUNTERS)])
        return u_MC.view(-1, height, width, channels).permute(0, 3, 1, 2)


CORRUPTIONS: Registry[Corruption] = Registry("corruption", "experiments.images.corruptions")

Change = TypeVar("Change", bound=Callable[..., Any])


def corruption(
    kind: Literal["geometric", "photometric"],
    name: str,
    *levels: Any,
    num_draws: int | Literal["values"] = 0,
    is_extra: bool = False,
) -> Callable[[Change], Change]:
    """Decorate what changes images or moves them; the arguments are fields of Corruption."""

    def register(change: Change) -> Change:
        CORRUPTIONS.register(name)(Corruption(kind, change, levels, num_draws, is_extra))
        return change

    return register
