"""Affine maps: everything that keeps parallels parallel."""

from torch import Tensor

from stn.affine import identity
from stn.maps import AffineMap


class Affine:
    """Six parameters: the two rows of the matrix, as offsets from the identity.

    Source: Jaderberg et al. 2015, Spatial Transformer Networks, section 3.2, equation 1.
    """

    num_params, composes, turns = 6, True, True

    def __call__(self, params_B6: Tensor) -> AffineMap:
        return AffineMap(identity(params_B6.shape[0], device=params_B6.device) + params_B6.float().view(-1, 2, 3))
