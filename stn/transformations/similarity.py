"""Similarities: rotation, isotropic scale and translation."""

import torch
from torch import Tensor

from stn.maps import AffineMap


class Similarity:
    """Four parameters: scale times (cos, sin) of the turn, as an offset from (1, 0); and the shift (x, y)."""

    num_params, composes, turns = 4, True, True

    def __call__(self, params_B4: Tensor) -> AffineMap:
        a_B, b_B, x_B, y_B = params_B4.float().unbind(1)
        a_B = 1 + a_B
        return AffineMap(torch.stack([a_B, -b_B, x_B, b_B, a_B, y_B], dim=1).view(-1, 2, 3))
