"""Attention: isotropic scale and translation, that is, a crop."""

import torch
from torch import Tensor

from stn.maps import AffineMap


class Attention:
    """Three parameters: the scale's offset from 1, and the shift (x, y) in normalised coordinates.

    Source: Jaderberg et al. 2015, Spatial Transformer Networks, section 3.2, equation 2.
    """

    num_params, composes, turns = 3, True, False

    def __call__(self, params_B3: Tensor) -> AffineMap:
        scale_B, x_B, y_B = params_B3.float().unbind(1)
        scale_B = 1 + scale_B
        zero_B = torch.zeros_like(scale_B)
        return AffineMap(torch.stack([scale_B, zero_B, x_B, zero_B, scale_B, y_B], dim=1).view(-1, 2, 3))
