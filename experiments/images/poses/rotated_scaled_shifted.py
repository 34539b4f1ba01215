"""RTS: images turned, scaled and shifted."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from experiments.images.poses import POSES, Corners, PoseMaps, affine_pose, check_canvas
from stn.affine import from_parts


@POSES.register("RTS")
@dataclass(frozen=True)
class RotatedScaledShifted:
    """Turned, scaled and shifted images.

    Rotation U(-max_deg, max_deg), scale U(min_scale, max_scale), shift U(-shift, shift) of the image's side.
    corners, canvas_px, fresh: as of every pose.
    Source: Jaderberg et al. 2015, section 4.1, where a 28-pixel digit is placed at random on 42 pixels, that is
    `RTS:shift=0.25:canvas_px=42:corners=zeros`; natural images fill their frame, so the shift is bounded here by what
    keeps most of the picture in it.
    """

    num_draws: ClassVar[int] = 4
    max_deg: float = 45.0
    min_scale: float = 0.7
    max_scale: float = 1.2
    shift: float = 5 / 32
    corners: Corners = "disc"
    canvas_px: int = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_deg <= 180:
            raise ValueError(f"max_deg: {self.max_deg} is not between 0 and 180")
        if not 0 < self.max_scale <= 10:
            raise ValueError(f"max_scale: {self.max_scale} is not above 0 and up to 10")
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(f"min_scale: {self.min_scale} is not above 0 and at most max_scale {self.max_scale}")
        if not 0 <= self.shift <= 1:
            raise ValueError(f"shift: {self.shift} is not between 0 and 1")
        check_canvas(self.canvas_px)

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        return affine_pose(
            from_parts(
                angle_rad_B=(2 * u_NK[:, 0] - 1) * math.radians(self.max_deg),
                log_scale_B=(self.min_scale + (self.max_scale - self.min_scale) * u_NK[:, 1]).log(),
                shift_B2=(2 * u_NK[:, 2:4] - 1) * 2 * self.shift,
            )
        )
