"""Translations."""

import torch
from torch import Tensor

from stn.affine import identity
from stn.maps import AffineMap


class Translation:
    """Two parameters: the shift (x, y) in normalised coordinates."""

    num_params, composes, turns = 2, True, False

    def __call__(self, params_B2: Tensor) -> AffineMap:
        linear_B22 = identity(params_B2.shape[0], device=params_B2.device)[:, :, :2]
        return AffineMap(torch.cat([linear_B22, params_B2.float()[:, :, None]], dim=2))
