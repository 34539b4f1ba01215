"""R: images turned about their centre."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from experiments.images.poses import POSES, Corners, PoseMaps, affine_pose, check_canvas
from stn.affine import from_parts


@POSES.register("R")
@dataclass(frozen=True)
class Rotated:
    """Turned images.

    Rotation U(-max_deg, max_deg). max_deg: up to 180. corners, canvas_px, fresh: as of every pose.
    Source: Jaderberg et al. 2015, section 4.1: 90 degrees.
    """

    num_draws: ClassVar[int] = 4
    max_deg: float = 90.0
    corners: Corners = "disc"
    canvas_px: int = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.max_deg <= 180:
            raise ValueError(f"max_deg: {self.max_deg} is not above 0 and up to 180")
        check_canvas(self.canvas_px)

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        return affine_pose(from_parts(angle_rad_B=(2 * u_NK[:, 0] - 1) * math.radians(self.max_deg)))
