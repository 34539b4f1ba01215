"""Rotations about the centre."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stn.maps import AffineMap


class Rotation:
    """Two parameters: the direction (cos, sin) of the turn before it is normalised, as an offset from (1, 0).

    A direction has no jump at 180 degrees, where an angle has one.
    Source: Zhou et al. 2019, On the Continuity of Rotation Representations in Neural Networks, section 3.
    """

    num_params, composes, turns = 2, True, True

    def __call__(self, params_B2: Tensor) -> AffineMap:
        direction_B2 = params_B2.float() + params_B2.new_tensor([1.0, 0.0], dtype=torch.float32)
        cos_B, sin_B = F.normalize(direction_B2, dim=1, eps=1e-6).unbind(1)
        zero_B = torch.zeros_like(cos_B)
        return AffineMap(torch.stack([cos_B, -sin_B, zero_B, sin_B, cos_B, zero_B], dim=1).view(-1, 2, 3))
