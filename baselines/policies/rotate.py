"""Random rotations about the centre."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Filling, Warp
from baselines.ranges import within


def rotation(angle_rad_B: Tensor) -> Tensor:
    """Linear part of a rotation, (B, 2, 2); positive turns x to the right towards y down."""
    cos_B, sin_B = angle_rad_B.cos(), angle_rad_B.sin()
    return torch.stack([torch.stack([cos_B, -sin_B], -1), torch.stack([sin_B, cos_B], -1)], -2)


@POLICIES.register("rotate")
@dataclass(frozen=True)
class Rotate(Filling):
    """Each image turned by an angle from U(-max_deg, max_deg), bilinear."""

    num_draws: ClassVar[int] = 1
    max_deg: float = within(0, 180, 15.0)

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {"angle_rad": (2 * u_BK[:, 0] - 1) * math.radians(self.max_deg)}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        # The warp maps output to input: the picture turns the other way.
        linear_B22 = rotation(-params["angle_rad"])
        return warp(x_BCHW, torch.cat([linear_B22, torch.zeros_like(linear_B22[:, :, :1])], dim=-1), self.fill)
