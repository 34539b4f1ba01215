"""Between shown and learned: a network that learns by how much images may be turned, scaled, sheared and shifted.

Legend: B images, C channels, H rows, W columns, G generators of affine maps, X logits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ranges import at_least, within
from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from stn.maps import AffineMap, in_float32
from stn.sampler import Sampler

GENERATORS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "affine": (
        *((0, 0, 1, 0, 0, 0), (0, 0, 0, 0, 0, 1), (0, -1, 0, 1, 0, 0)),
        *((1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0)),
    ),
    "turns": ((0, -1, 0, 1, 0, 0),),
}
"""The first two rows of 3x3 matrices, row by row: shifts along x and y, turns, scale, stretch and shear."""
WIDEST = 10.0
"""A range that has grown to this is not rewarded any more, as in the authors' program."""


@MODELS.register("augerino")
@dataclass(frozen=True)
class Augerino(UsualModel):
    """A network that learns ranges of augmentation, and averages over them when it is tested.

    Each image is shown under the exponential of a sum of generators, each times a number from U(-1, 1) times its range,
    which is learned by gradient: the classification loss makes ranges smaller, a term that rewards large ones wider.
    What is learned is one distribution for all images: not where to look, but what does not matter.
    family: `affine`: six ranges; `turns`: that of turns alone.
    reward: weight of the ranges' Euclidean norm, which is subtracted from the loss.
    start: of each range; in radians for turns, in half images for shifts.
    copies: of an image in training. tested: the same in evaluation, under the same draws for all images, where the
        classes' probabilities are averaged.
    range_lr_factor: learning rate of the ranges as a factor of the base rate; large, as they are few steps away from 0.
    Source: Benton et al. 2020, Learning Invariances in Neural Networks, arXiv:2010.11882, sections 3 and 4.
    """

    role = "other"
    family: Literal["affine", "turns"] = "affine"
    reward: float = at_least(0, 0.05)
    start: float = within(0, 3, 0.1, ends="(]")
    copies: int = within(1, 64, 1)
    tested: int = within(1, 64, 4)
    range_lr_factor: float = at_least(0, 50.0)

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        return len(GENERATORS[self.family]) * self.copies

    def build(self, site: Site) -> Network:
        return AugerinoNetwork(site, self)

    def lr_factors(self) -> Mapping[str, float]:
        return {"ranges": self.range_lr_factor}


class Ranges(nn.Module):
    """Positive numbers that are learned, (G,)."""

    def __init__(self, start: float, num: int) -> None:
        super().__init__()
        self.raw_G = nn.Parameter(torch.full((num,), math.log(math.expm1(start))))

    def forward(self) -> Tensor:
        return F.softplus(self.raw_G.float())


class AugerinoNetwork(Network):
    """A backbone on images under maps drawn from learned ranges."""

    def __init__(self, site: Site, model: Augerino) -> None:
        super().__init__(site, site.backbone())
        self.model = model
        self.num_draws = model.num_draws
        self.ranges = Ranges(model.start, len(GENERATORS[model.family]))
        self.generators_G33: Tensor
        self.tested_u_SG: Tensor
        rows_G23 = torch.tensor(GENERATORS[model.family], dtype=torch.float32, device="cpu").view(-1, 2, 3)
        self.register_buffer("generators_G33", F.pad(rows_G23, (0, 0, 0, 1)), persistent=False)
        u_SG = torch.rand(model.tested, len(rows_G23), generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("tested_u_SG", u_SG, persistent=False)

    def drawn(self, u_BG: Tensor) -> AffineMap:
        """Maps from the shown image's coordinates to those of the image."""
        with in_float32(u_BG):
            step_BG = (2 * u_BG - 1) * self.ranges()
            return AffineMap(torch.linalg.matrix_exp(torch.einsum("bg,grc->brc", step_BG, self.generators_G33))[:, :2])

    def forward(self, batch: Batch) -> Tensor:
        """Logarithms of the classes' mean probabilities; logits of one copy."""
        if self.training:
            u_SBG = batch.u_BK.unflatten(1, (self.model.copies, -1)).transpose(0, 1)
        else:
            u_SBG = self.tested_u_SG[:, None].expand(-1, batch.raw_BCHW.shape[0], -1)
        num = len(u_SBG)
        sampler = Sampler()
        seen_NCHW = torch.cat([sampler(batch.raw_BCHW, self.drawn(u_BG)) for u_BG in u_SBG])
        logits_NX = self.backbone(self.normalise(seen_NCHW.contiguous(memory_format=torch.channels_last)))
        if num == 1:
            return logits_NX
        return logits_NX.float().log_softmax(1).unflatten(0, (num, -1)).logsumexp(0) - math.log(num)

    def logits_and_penalty(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        ranges_G = self.ranges()
        reward = -self.model.reward * ranges_G.norm() * (ranges_G < WIDEST).all()
        return self(batch), reward
