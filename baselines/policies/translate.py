"""Random shifts."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Filling, Warp
from baselines.ranges import within


@POLICIES.register("translate")
@dataclass(frozen=True)
class Translate(Filling):
    """Each image shifted along both axes, bilinear.

    max_shift: fraction of the image's side, each axis U(-max, max). Raises ValueError unless it is from 0 to 1.
    """

    num_draws: ClassVar[int] = 2
    max_shift: float = within(0, 1, 0.125)

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {"shift": (2 * u_BK[:, :2] - 1) * self.max_shift}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        shift_B2 = params["shift"]
        linear_B22 = torch.eye(2, device=shift_B2.device).expand(len(shift_B2), 2, 2)
        # Normalised coordinates are 2 wide, and the warp maps output to input.
        return warp(x_BCHW, torch.cat([linear_B22, -2 * shift_B2[:, :, None]], dim=-1), self.fill)
