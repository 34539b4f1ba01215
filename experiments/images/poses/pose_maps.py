"""True poses, as maps between the coordinates of posed and of upright images.

Legend: N images, B some of them, M points, 2 their x and y.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stn.maps import AffineMap, ProjectiveMap
from stn.spline import SplineMap


@dataclass(frozen=True)
class PoseMaps:
    """The true pose of each image: maps from the posed image's coordinates to those of the upright one.

    theta_N33: projective; applied to points after `bend`.
    bend: a spline that is applied before it; None where nothing is bent.
    further: of an image that was posed twice the later pose, whose maps are applied first.
    """

    theta_N33: Tensor
    bend: SplineMap | None = None
    further: "PoseMaps | None" = None

    def __len__(self) -> int:
        return len(self.theta_N33)

    def __getitem__(self, index_B: Tensor) -> "PoseMaps":
        bend = None if self.bend is None else SplineMap(self.bend.step_BK2.index_select(0, index_B))
        return PoseMaps(self.theta_N33.index_select(0, index_B), bend, self.further and self.further[index_B])

    def apply(self, points: Tensor) -> Tensor:
        """Posed points (M, 2) or (N, M, 2) to upright ones, (N, M, 2)."""
        for earlier in (self.further, self.bend):
            points = points if earlier is None else earlier.apply(points)
        return ProjectiveMap(self.theta_N33).apply(points)

    def from_upright(self) -> "FromUpright":
        """The maps that undo the poses: sampled under them, posed images are upright again."""
        return FromUpright(self)

    def before(self, theta_N23: Tensor) -> "PoseMaps":
        """These poses on images that were under poses of their own, theta_N23, already."""
        return PoseMaps(AffineMap(theta_N23).projective().theta_B33 @ self.theta_N33, self.bend, self.further)

    def then(self, further: "PoseMaps") -> "PoseMaps":
        """These poses on images that were put under further ones afterwards."""
        assert self.further is None
        return PoseMaps(self.theta_N33, self.bend, further)


@dataclass(frozen=True)
class FromUpright:
    """Maps from upright coordinates to posed ones."""

    poses: PoseMaps

    def apply(self, points: Tensor) -> Tensor:
        """Upright points (M, 2) or (N, M, 2) to posed ones, (N, M, 2)."""
        posed_NM2 = ProjectiveMap(self.poses.theta_N33).inverse().apply(points)
        if self.poses.bend is not None:
            posed_NM2 = self.poses.bend.apply_inverse(posed_NM2)
        return posed_NM2 if self.poses.further is None else self.poses.further.from_upright().apply(posed_NM2)


def no_pose(num: int, device: torch.device | str = "cpu") -> PoseMaps:
    """The poses of upright images."""
    return PoseMaps(torch.eye(3, device=device).expand(num, 3, 3))


def affine_pose(theta_in_to_out_N23: Tensor) -> PoseMaps:
    """From maps that say where upright points go to the poses that say where posed ones come from."""
    return PoseMaps(AffineMap(theta_in_to_out_N23).inverse().projective().theta_B33)
