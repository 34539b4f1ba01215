"""Random affine maps: the shown counterpart of what an affine spatial transformer can learn."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Filling, Warp
from baselines.policies.rotate import rotation
from baselines.ranges import within


@POLICIES.register("affine")
@dataclass(frozen=True)
class Affine(Filling):
    """Each image sheared, scaled, turned and shifted, bilinear.

    max_deg: rotation U(-max, max). max_shift: fraction of the image's side, each axis U(-max, max).
    max_scale: scale log-uniform between its inverse and itself, at least 1. max_shear_deg: U(-max, max) along x,
    under 90. Raises ValueError for others.
    """

    num_draws: ClassVar[int] = 5
    max_deg: float = within(0, 180, 15.0)
    max_shift: float = within(0, 1, 0.1)
    max_scale: float = within(1, 10, 1.2)
    max_shear_deg: float = within(-90, 90, 10.0, ends="()")

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        sign_BK = 2 * u_BK - 1
        return {
            "angle_rad": sign_BK[:, 0] * math.radians(self.max_deg),
            "shift": sign_BK[:, 1:3] * self.max_shift,
            "scale": torch.exp(sign_BK[:, 3] * math.log(self.max_scale)),
            "shear_rad": sign_BK[:, 4] * math.radians(self.max_shear_deg),
        }

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        tan_B = params["shear_rad"].tan()
        one_B, zero_B = torch.ones_like(tan_B), torch.zeros_like(tan_B)
        # Inverse of "shear, scale, turn, shift", since the warp maps output to input.
        unshear_B22 = torch.stack([torch.stack([one_B, -tan_B], -1), torch.stack([zero_B, one_B], -1)], -2)
        linear_B22 = unshear_B22 @ rotation(-params["angle_rad"]) / params["scale"][:, None, None]
        # Normalised coordinates are 2 wide, so a fraction f of the side is a shift of 2f.
        shift_B21 = -linear_B22 @ (2 * params["shift"])[:, :, None]
        return warp(x_BCHW, torch.cat([linear_B22, shift_B21], dim=-1), self.fill)
