"""Random changes of perspective."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Filling, Warp

CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
"""(x, y) of an image's corners, normalised: top left, top right, bottom right, bottom left."""


def homography_to_corners(points_B42: Tensor) -> Tensor:
    """The homographies, (B, 3, 3), that take four points each to the image's corners; their last entry is 1.

    points_B42: (x, y), normalised, in the order of CORNERS; no three on a line, the origin inside.
    """
    # A homography is fixed by where three points and one weighted sum of them go: M = (w0 p0, w1 p1, w2 p2) with
    # w0 p0 + w1 p1 + w2 p2 = p3. Row i of its inverse is the cross product of the other two points, over its
    # product with p3.
    p_B43 = torch.cat([points_B42, torch.ones_like(points_B42[..., :1])], dim=-1)
    row_B33 = torch.linalg.cross(p_B43[:, [1, 2, 0]], p_B43[:, [2, 0, 1]])
    to_basis_B33 = row_B33 / (row_B33 * p_B43[:, 3:]).sum(-1, keepdim=True)
    # For the corners themselves the weights are 1, -1 and 1.
    basis_to_corners_33 = p_B43.new_tensor([[-1, -1, 1], [-1, 1, 1], [1, -1, 1]])
    theta_B33 = basis_to_corners_33 @ to_basis_B33
    return theta_B33 / theta_B33[:, 2:, 2:]


@POLICIES.register("perspective")
@dataclass(frozen=True)
class Perspective(Filling):
    """Every corner of each image moved inwards, the picture with it, bilinear.

    distortion_scale: how far a corner moves along each axis, U(0, max), as a fraction of half of the image's side.
        Below 2/3: from there on a corner can cross the line between its neighbours. Raises ValueError for others.
    As torchvision's RandomPerspective with p = 1, but corners move by fractions of pixels, and they are the
    corners of the image where there they are the centres of its outermost pixels.
    """

    num_draws: ClassVar[int] = 8
    distortion_scale: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.distortion_scale < 2 / 3:
            raise ValueError(f"distortion_scale: {self.distortion_scale} is not between 0 and 2/3")

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        # Half of a side is 1 in normalised coordinates.
        return {"corners": u_BK.new_tensor(CORNERS) * (1 - self.distortion_scale * u_BK.view(-1, 4, 2))}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        # The warp maps output to input: moved corners to those of the image.
        return warp(x_BCHW, homography_to_corners(params["corners"]), self.fill)
