"""Upright: images as they are."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from experiments.images.poses.pose import POSES, Corners
from experiments.images.poses.pose_maps import PoseMaps, no_pose


@POSES.register("upright")
@dataclass(frozen=True)
class Upright:
    """Images as they are."""

    num_draws: ClassVar[int] = 0
    corners: ClassVar[Corners] = "zeros"
    canvas_px: ClassVar[int] = 0
    fresh: ClassVar[bool] = False

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        return no_pose(len(u_NK), u_NK.device)
