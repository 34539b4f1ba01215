"""Random affine maps: the shown counterpart of what an affine spatial transformer can learn."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Warp
from baselines.policies.rotate import rotation


@POLICIES.register("affine")
@dataclass(frozen=True)
class Affine:
    """Each image sheared, scaled, turned and shifted, bilinear, black outside.

    max_deg: rotation U(-max, max). max_shift: fraction of the image's side, each axis U(-max, max).
    max_scale: scale log-uniform between its inverse and itself, at least 1. max_shear_deg: U(-max, max) along x,
    under 90. Raises ValueError for others.
    """

    num_draws: ClassVar[int] = 5
    max_deg: float = 15.0
    max_shift: float = 0.1
    max_scale: float = 1.2
    max_shear_deg: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_deg <= 180:
            raise ValueError(f"max_deg: {self.max_deg} is not between 0 and 180")
        if not 0 <= self.max_shift <= 1:
            raise ValueError(f"max_shift: {self.max_shift} is not between 0 and 1")
        if not 1 <= self.max_scale <= 10:
            raise ValueError(f"max_scale: {self.max_scale} is not between 1 and 10")
        if not -90 < self.max_shear_deg < 90:
            raise ValueError(f"max_shear_deg: {self.max_shear_deg} is not between -90 and 90")

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
        return warp(x_BCHW, torch.cat([linear_B22, shift_B21], dim=-1))
