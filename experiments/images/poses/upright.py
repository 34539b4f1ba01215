"""Upright images, the pose that leaves images as they are."""

from dataclasses import dataclass
from typing import Literal

from experiments.images.poses.pose import POSES, Pose


@POSES.register("upright")
@dataclass(frozen=True)
class Upright(Pose):
    """Upright images.

    corners: `disc`: as turned images are, but for the turn: resampled, and black outside their inscribed disc. Nothing
        but the turn tells them from images under `R`.
    """

    corners: Literal["zeros", "disc"] = "zeros"
