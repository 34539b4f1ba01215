"""What moves pixels. Levels are our own choice: 1 is what a careless photographer does, 5 is hard for a person.

Signs and directions are drawn for each image; how far it is moved is the severity's.
"""

import math

import torch
from torch import Tensor

from experiments.images.corruptions.corruption import corruption
from experiments.images.poses.elastic import Elastic
from experiments.images.poses.pose_maps import PoseMaps, affine_pose
from experiments.images.poses.projective import Projective
from stn.affine import from_parts


def _sign(u_BK: Tensor) -> Tensor:
    return torch.where(u_BK[:, 0] < 0.5, -1.0, 1.0)


@corruption("geometric", "rotate", 10.0, 20.0, 30.0, 45.0, 60.0, num_draws=1)
def rotate(u_BK: Tensor, image_px: int, angle_deg: float) -> PoseMaps:
    """A turn by this angle, either way."""
    return affine_pose(from_parts(angle_rad_B=_sign(u_BK) * math.radians(angle_deg)))


@corruption("geometric", "scale", 1.1, 1.2, 1.35, 1.5, 1.75, num_draws=1)
def scale(u_BK: Tensor, image_px: int, factor: float) -> PoseMaps:
    """Larger by this factor, or smaller."""
    sign_B = _sign(u_BK)
    return affine_pose(from_parts(angle_rad_B=torch.zeros_like(sign_B), log_scale_B=sign_B * math.log(factor)))


@corruption("geometric", "shear", 10.0, 20.0, 30.0, 37.5, 45.0, num_draws=1)
def shear(u_BK: Tensor, image_px: int, angle_deg: float) -> PoseMaps:
    """Rows pushed along each other, so that upright lines lean by this angle, either way."""
    sign_B = _sign(u_BK)
    return affine_pose(from_parts(angle_rad_B=torch.zeros_like(sign_B), shear_rad_B=sign_B * math.radians(angle_deg)))


@corruption("geometric", "shift", 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, num_draws=1)
def shift(u_BK: Tensor, image_px: int, share: float) -> PoseMaps:
    """Moved by this share of the side, in any direction."""
    direction_B = 2 * math.pi * u_BK[:, 0]
    # The image is 2 wide.
    shift_B2 = 2 * share * torch.stack([direction_B.cos(), direction_B.sin()], dim=1)
    return affine_pose(from_parts(angle_rad_B=torch.zeros_like(direction_B), shift_B2=shift_B2))


@corruption("geometric", "perspective", 0.03, 0.06, 0.09, 0.12, 0.16, num_draws=Projective.num_draws)
def perspective(u_BK: Tensor, image_px: int, corner_sd: float) -> PoseMaps:
    """Each corner moved by N(0, sd) of the side along each axis, as in the pose P."""
    return Projective(min_scale=1.0, corner_sd=corner_sd).draw(u_BK, image_px)


@corruption("geometric", "elastic", 0.01, 0.02, 0.03, 0.045, 0.07, num_draws=Elastic.num_draws)
def elastic(u_BK: Tensor, image_px: int, sigma: float) -> PoseMaps:
    """Each of 4 x 4 control points moved by N(0, sigma) of the side, as in the pose E; nothing is folded over."""
    return Elastic(sigma=sigma).draw(u_BK, image_px)
