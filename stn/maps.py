"""Maps from the coordinates of an output to those of an input, as objects that know how to be applied and composed.

Legend: B images, N points, 2 their x and y; 23 and 33 rows and columns of homogeneous matrices.
Convention: coordinates are normalised to [-1, 1] over the image's edges (align_corners=False), x to the right, y down,
origin in the centre. `apply` takes points (N, 2), the same for every image, or (B, N, 2), and returns (B, N, 2).
"""

from typing import Protocol

import torch
from torch import Tensor

from stn import affine

MIN_DEPTH = 1e-3
"""Least distance from a projective map's horizon, so that no point is divided by zero."""


def in_float32(tensor: Tensor) -> torch.autocast:
    """The context in which matrix products of geometry keep their precision, whatever the autocast around."""
    return torch.autocast(tensor.device.type, enabled=False)


def _linear(theta_BR3: Tensor, points: Tensor) -> Tensor:
    """Rows of matrices times homogeneous points: (B, N, R) for points (N, 2) or (B, N, 2).

    By single products and sums, since the last digits of a matrix product depend, on some CPUs, on how many matrices
    there are: an image's pose must not depend on what other images it is made with.
    """
    x, y = points.unsqueeze(-3).unbind(-1)  # (1, N) or (B, 1, N)
    a_BR1, b_BR1, c_BR1 = theta_BR3.split(1, dim=-1)
    return (a_BR1 * x + b_BR1 * y + c_BR1).mT


class Map(Protocol):
    """A batch of maps from output to input coordinates."""

    def apply(self, points: Tensor) -> Tensor: ...


class AffineMap:
    """theta_B23 as in stn/affine.py."""

    def __init__(self, theta_out_to_in_B23: Tensor) -> None:
        self.theta_B23 = theta_out_to_in_B23

    def __len__(self) -> int:
        return len(self.theta_B23)

    def apply(self, points: Tensor) -> Tensor:
        return _linear(self.theta_B23, points)

    def compose(self, inner: "MatrixMap") -> "MatrixMap":
        """The map that applies `inner` first and this one to its result."""
        if isinstance(inner, ProjectiveMap):
            return self.projective().compose(inner)
        with in_float32(self.theta_B23):
            return AffineMap(affine.compose(self.theta_B23, inner.theta_B23))

    def inverse(self) -> "AffineMap":
        """A singular map gives infinities or NaN, not an error."""
        with in_float32(self.theta_B23):
            return AffineMap(affine.inverse(self.theta_B23))

    def projective(self) -> "ProjectiveMap":
        """These maps as 3x3 matrices."""
        row_B13 = self.theta_B23.new_tensor([0.0, 0.0, 1.0]).expand(len(self), 1, 3)
        return ProjectiveMap(torch.cat([self.theta_B23, row_B13], dim=1))


class ProjectiveMap:
    """Homographies: points (x, y, 1) times a 3x3 matrix, divided by their third coordinate."""

    def __init__(self, theta_out_to_in_B33: Tensor) -> None:
        self.theta_B33 = theta_out_to_in_B33

    def __len__(self) -> int:
        return len(self.theta_B33)

    def apply(self, points: Tensor) -> Tensor:
        image_BN3 = _linear(self.theta_B33, points)
        depth_BN1 = image_BN3[:, :, 2:]
        # Points on the horizon would be infinitely far away; they are put out of the frame instead.
        near_BN1 = depth_BN1.abs() < MIN_DEPTH
        sign_BN1 = torch.where(depth_BN1 < 0, -MIN_DEPTH, MIN_DEPTH)
        return image_BN3[:, :, :2] / torch.where(near_BN1, sign_BN1.to(depth_BN1.dtype), depth_BN1)

    def compose(self, inner: "MatrixMap") -> "ProjectiveMap":
        """The map that applies `inner` first and this one to its result."""
        with in_float32(self.theta_B33):
            return ProjectiveMap(self.theta_B33 @ inner.projective().theta_B33)

    def inverse(self) -> "ProjectiveMap":
        """The adjugate, since homographies are the same up to a factor: it needs no division and no pivots."""
        a_B3, b_B3, c_B3 = self.theta_B33.unbind(dim=1)
        columns = (b_B3.cross(c_B3, dim=1), c_B3.cross(a_B3, dim=1), a_B3.cross(b_B3, dim=1))
        adjugate_B33 = torch.stack(columns, dim=2)
        # Of the size of the identity: `apply` compares the third coordinate with a fixed bound.
        return ProjectiveMap(adjugate_B33 / adjugate_B33[:, 2:, 2:])

    def projective(self) -> "ProjectiveMap":
        return self


MatrixMap = AffineMap | ProjectiveMap


def displacement(map_a: Map, map_b: Map, points: Tensor) -> Tensor:
    """Mean squared distance between where two maps send the points, (B,)."""
    return (map_a.apply(points) - map_b.apply(points)).square().sum(-1).mean(-1)


def circle(device: torch.device) -> Tensor:
    """Points evenly spread on the circle that touches the image's edges, (8, 2): a turn moves all alike."""
    angle_N = torch.arange(8, device=device, dtype=torch.float32) * (2 * torch.pi / 8)
    return torch.stack([angle_N.cos(), angle_N.sin()], dim=1)
