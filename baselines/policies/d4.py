"""Quarter turns and mirror images: the symmetries of the square."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Warp


@POLICIES.register("d4")
@dataclass(frozen=True)
class D4:
    """Each image under one of the eight symmetries of a square, all equally likely; no pixel is resampled.

    mirror: whether the four mirrored ones are among them; without them the four quarter turns are left.
    Raises ValueError for images that are not square.
    Source: the dihedral group of order 8; Cohen and Welling 2016, Group Equivariant Convolutional Networks, section 4.
    """

    num_draws: ClassVar[int] = 2
    mirror: bool = True

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {"quarters": (4 * u_BK[:, 0]).floor().long(), "mirrored": self.mirror & (u_BK[:, 1] < 0.5)}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        _, _, height, width = x_BCHW.shape
        if height != width:
            raise ValueError(f"d4: {height} x {width} pixels are not a square")
        quarters_B111, mirrored_B111 = (params[name][:, None, None, None] for name in ("quarters", "mirrored"))
        # A quarter turn to the left transposes the image, and then swaps its rows.
        x_BCHW = torch.where(mirrored_B111, x_BCHW.flip(3), x_BCHW)
        x_BCHW = torch.where(quarters_B111 % 2 == 1, x_BCHW.transpose(2, 3), x_BCHW)
        x_BCHW = torch.where((quarters_B111 == 1) | (quarters_B111 == 2), x_BCHW.flip(2), x_BCHW)
        return torch.where(quarters_B111 >= 2, x_BCHW.flip(3), x_BCHW)
