"""A prior on the pose."""

import torch
from torch import Tensor

from stn.affine import identity
from stn.maps import AffineMap, Map, circle, displacement


def prior(maps: Map, num: int, device: torch.device) -> Tensor:
    """How far the maps are from the identity, a scalar: most images are taken upright.

    Without it every constant turn of a consistent transformer is as good as any other.
    Source: Mondal et al. 2023, Equivariant Adaptation of Large Pretrained Models, section 3.2: a prior on poses that
    keeps canonical images looking like those of the data; here it is one on the size of the map.
    """
    return displacement(maps, AffineMap(identity(num, device=device)), circle(device)).mean()
