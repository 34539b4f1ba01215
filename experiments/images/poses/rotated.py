"""R: images turned about their centre."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baselines.ranges import Ranged, within
from experiments.images.poses.pose import CANVAS_PX, POSES, Corners
from experiments.images.poses.pose_maps import PoseMaps, affine_pose
from stn.affine import from_parts


@POSES.register("R")
@dataclass(frozen=True)
class Rotated(Ranged):
    """Turned images.

    Rotation U(-max_deg, max_deg). max_deg: up to 180. corners, canvas_px, fresh: as of every pose.
    Source: Jaderberg et al. 2015, section 4.1: 90 degrees.
    """

    num_draws: ClassVar[int] = 4
    max_deg: float = within(0, 180, 90.0, ends="(]")
    corners: Corners = "disc"
    canvas_px: int = within(*CANVAS_PX, 0, or_zero=True)
    fresh: bool = False

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        return affine_pose(from_parts(angle_rad_B=(2 * u_NK[:, 0] - 1) * math.radians(self.max_deg)))
