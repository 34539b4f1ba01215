"""Random zooms about the centre."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Filling, Warp
from baselines.ranges import within


@POLICIES.register("scale")
@dataclass(frozen=True)
class Scale(Filling):
    """Each image made larger or smaller, its canvas kept, bilinear.

    max_scale: scale log-uniform between its inverse and itself. Raises ValueError unless it is 1 or more.
    """

    num_draws: ClassVar[int] = 1
    max_scale: float = within(1, 10, 1.3)

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {"scale": torch.exp((2 * u_BK[:, 0] - 1) * math.log(self.max_scale))}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        scale_B = params["scale"]
        # The warp maps output to input: the inverse.
        return warp(x_BCHW, torch.eye(2, 3, device=scale_B.device) / scale_B[:, None, None], self.fill)
