"""Random zooms about the centre."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Warp


@POLICIES.register("scale")
@dataclass(frozen=True)
class Scale:
    """Each image made larger or smaller, its canvas kept, bilinear, black around it.

    max_scale: scale log-uniform between its inverse and itself. Raises ValueError unless it is 1 or more.
    """

    num_draws: ClassVar[int] = 1
    max_scale: float = 1.3

    def __post_init__(self) -> None:
        if not 1 <= self.max_scale <= 10:
            raise ValueError(f"max_scale: {self.max_scale} is not between 1 and 10")

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {"scale": torch.exp((2 * u_BK[:, 0] - 1) * math.log(self.max_scale))}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        scale_B = params["scale"]
        # The warp maps output to input: the inverse.
        return warp(x_BCHW, torch.eye(2, 3, device=scale_B.device) / scale_B[:, None, None])
