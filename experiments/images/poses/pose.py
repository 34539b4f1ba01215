"""What a pose is, the registry of all of them, and their names.

Legend: N images, C channels, H rows, W columns, K uniform numbers an image, M images of a part.
"""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from baselines.registry import Registry
from experiments.images.poses.pose_maps import PoseMaps, no_pose
from experiments.images.tasks.task import MAX_IMAGE_PX, MIN_IMAGE_PX
from ledger.errors import UserError, nearest
from ledger.options import spell, split_name, typed

Corners = Literal["disc", "zeros", "reflect"]
"""What posed images show of what was outside the upright one's inscribed disc: nothing; its corners, and black outside
its frame; or the corners, and its reflection outside."""

CANVAS_PX = (MIN_IMAGE_PX, MAX_IMAGE_PX)
"""Sides that a canvas may have."""


class Pose(Protocol):
    """What every pose offers. One that inherits from it leaves images as they are, until it says otherwise.

    num_draws: uniform numbers in [0, 1) that one image needs.
    corners: what turned images show outside their frame. canvas_px: side of the posed image; 0 for that of the image.
    fresh: whether each image that is trained on is put under another draw of the pose whenever it is shown.
    """

    @property
    def num_draws(self) -> int:
        return 0

    @property
    def corners(self) -> Corners:
        return "zeros"

    @property
    def canvas_px(self) -> int:
        return 0

    @property
    def fresh(self) -> bool:
        return False

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        """From posed to upright coordinates, both in units of half an image's side (not of the canvas's)."""
        return no_pose(len(u_NK), u_NK.device)


@runtime_checkable
class OnBackground(Pose, Protocol):
    """A pose that puts something behind the images, which it moves by whole pixels only: they are not resampled."""

    def background(self, pool_MHWC: Tensor, own_N: Tensor, u_NK: Tensor, size_px: int) -> Tensor:
        """What images that do not fill their canvas show around them, uint8 (N, size_px, size_px, C).

        pool_MHWC: images to take it from. own_N: which of them each image is.
        """
        ...


POSES: Registry[Callable[..., Pose]] = Registry("pose", "experiments.images.poses")


def parse_pose(text: str) -> Pose:
    """Raises UserError for a pose or an option that does not exist."""
    name, options = split_name(text, "pose")
    if name not in POSES:
        raise UserError(f"pose: {name!r} is unknown; {nearest(name, POSES)}")
    try:
        return POSES[name](**{key: typed(POSES[name], name, key, value) for key, value in options.items()})
    except ValueError as error:
        raise UserError(f"pose.{error}") from None


def spell_pose(text: str) -> str:
    """The one spelling of a pose: options at their defaults are left out. Raises UserError as parse_pose does."""
    name, _ = split_name(text, "pose")
    return spell(name, vars(parse_pose(text)), POSES[name])


def posed_px(text: str, image_px: int) -> int:
    """Side of the images under a pose. Raises UserError for images that are larger than their canvas."""
    canvas_px = parse_pose(text).canvas_px
    if canvas_px and canvas_px < image_px:
        raise UserError(f"pose: {text!r} has a canvas of {canvas_px} px, too small for images of {image_px} px")
    return canvas_px or image_px


def has_background(text: str) -> bool:
    """Whether a pose shows pieces of other images around the image."""
    return isinstance(parse_pose(text), OnBackground)
