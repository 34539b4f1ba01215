"""Upright: images as they are."""

from dataclasses import dataclass

from experiments.images.poses.pose import POSES, Pose


@POSES.register("upright")
@dataclass(frozen=True)
class Upright(Pose):
    """Images as they are."""
