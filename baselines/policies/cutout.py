"""Random holes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Warp
from baselines.ranges import Ranged, within


@POLICIES.register("cutout")
@dataclass(frozen=True)
class Cutout(Ranged):
    """One square of each image painted over, its centre anywhere, clipped at the border.

    hole_px: side of the square in a 32-pixel image, in proportion for other sizes; from 0 to 64.
    fill: what the hole is painted with, from 0 (black) to 1 (white). The source paints normalised images with 0,
        their mean colour, to which a middle grey comes near.
    Raises ValueError for others.
    Source: DeVries & Taylor 2017, Improved Regularization of Convolutional Neural Networks with Cutout, section 3.2.
    """

    num_draws: ClassVar[int] = 2
    hole_px: float = within(0, 64, 16.0)
    fill: float = within(0, 1, 0.5)

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {"centre_px": (u_BK[:, :2] * image_px).floor().long()}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        height, width = x_BCHW.shape[2:]
        side_px = round(self.hole_px * width / 32)
        first_px_B2 = params["centre_px"] - side_px // 2
        row_Bh = torch.arange(height, device=x_BCHW.device) - first_px_B2[:, :1]
        column_Bw = torch.arange(width, device=x_BCHW.device) - first_px_B2[:, 1:]
        hole_Bhw = ((row_Bh >= 0) & (row_Bh < side_px))[:, :, None] & ((column_Bw >= 0) & (column_Bw < side_px))[
            :, None, :
        ]
        return x_BCHW.masked_fill(hole_Bhw[:, None], self.fill)
