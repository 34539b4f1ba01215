"""Projective maps: what a plane looks like from another place."""

import torch
from torch import Tensor

from stn.maps import ProjectiveMap


class Projective:
    """Eight parameters: the 3x3 matrix row by row as offsets from the identity; its last number stays 1.

    Source: Jaderberg et al. 2015, Spatial Transformer Networks, sections 3.2 and 4.1.
    """

    num_params, composes, turns = 8, True, True

    def __call__(self, params_B8: Tensor) -> ProjectiveMap:
        offset_B9 = torch.cat([params_B8.float(), torch.zeros_like(params_B8[:, :1], dtype=torch.float32)], dim=1)
        return ProjectiveMap(torch.eye(3, device=params_B8.device) + offset_B9.view(-1, 3, 3))
