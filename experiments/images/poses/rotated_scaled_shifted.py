"""RTS: images turned, scaled and shifted."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baselines.ranges import Ranged, within
from experiments.images.poses.pose import CANVAS_PX, POSES, Corners
from experiments.images.poses.pose_maps import PoseMaps, affine_pose
from stn.affine import from_parts


@POSES.register("RTS")
@dataclass(frozen=True)
class RotatedScaledShifted(Ranged):
    """Turned, scaled and shifted images.

    Rotation U(-max_deg, max_deg), scale U(min_scale, max_scale), shift U(-shift, shift) of the image's side.
    corners, canvas_px, fresh: as of every pose.
    Source: Jaderberg et al. 2015, section 4.1, where a 28-pixel digit is placed at random on 42 pixels, that is
    `RTS:shift=0.25:canvas_px=42:corners=zeros`; natural images fill their frame, so the shift is bounded here by what
    keeps most of the picture in it.
    """

    num_draws: ClassVar[int] = 4
    max_deg: float = within(0, 180, 45.0)
    min_scale: float = 0.7
    max_scale: float = within(0, 10, 1.2, ends="(]")
    shift: float = within(0, 1, 5 / 32)
    corners: Corners = "disc"
    canvas_px: int = within(*CANVAS_PX, 0, or_zero=True)
    fresh: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(f"min_scale: {self.min_scale} is not above 0 and at most max_scale {self.max_scale}")

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        return affine_pose(
            from_parts(
                angle_rad_B=(2 * u_NK[:, 0] - 1) * math.radians(self.max_deg),
                log_scale_B=(self.min_scale + (self.max_scale - self.min_scale) * u_NK[:, 1]).log(),
                shift_B2=(2 * u_NK[:, 2:4] - 1) * 2 * self.shift,
            )
        )
