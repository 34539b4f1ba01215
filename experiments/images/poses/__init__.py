"""Poses: how each image of a task is disturbed, once and for all or, in training, anew whenever it is shown.

One file each. A pose is a frozen dataclass whose fields are its options: `R:max_deg=30:corners=zeros`. The first
sentence of its docstring is what reports say of its images.

Legend: N images, C channels, H rows, W columns, K uniform numbers an image, M points or images of a part, 2 x and y.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from baselines.registry import Registry
from experiments.images.draws import uniform
from experiments.images.resampling import resample
from experiments.images.tasks import MAX_IMAGE_PX, MIN_IMAGE_PX
from experiments.machine.heartbeat import beat
from ledger.errors import UserError, nearest
from ledger.options import Value, spell, split_name, typed
from stn.maps import AffineMap, ProjectiveMap
from stn.sampler import Sampler, base_grid
from stn.spline import SplineMap

Corners = Literal["disc", "zeros", "reflect"]
"""What posed images show of what was outside the upright one's inscribed disc: nothing; its corners, and black outside
its frame; or the corners, and its reflection outside."""

POSED_AT_ONCE_PX = 2048 * 32 * 32
"""Pixels of the images that are posed together: what memory that takes grows with it."""


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
        if self.further is not None:
            points = self.further.apply(points)
        if self.bend is not None:
            points = self.bend.apply(points)
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


class FromUpright:
    """From upright coordinates to posed ones."""

    def __init__(self, poses: PoseMaps) -> None:
        self.bend = poses.bend
        self.matrix = ProjectiveMap(poses.theta_N33).inverse()
        self.further = None if poses.further is None else poses.further.from_upright()

    def apply(self, points: Tensor) -> Tensor:
        posed_NM2 = self.matrix.apply(points)
        if self.bend is not None:
            posed_NM2 = self.bend.apply_inverse(posed_NM2)
        return posed_NM2 if self.further is None else self.further.apply(posed_NM2)


def no_pose(num: int, device: torch.device | str = "cpu") -> PoseMaps:
    """Upright images."""
    return PoseMaps(torch.eye(3, device=device).expand(num, 3, 3))


class Pose(Protocol):
    """What every pose offers.

    num_draws: uniform numbers in [0, 1) that one image needs.
    corners: what turned images show outside their frame. canvas_px: side of the posed image; 0 for that of the image.
    fresh: whether each image that is trained on is put under another draw of the pose whenever it is shown.
    """

    @property
    def num_draws(self) -> int: ...

    @property
    def corners(self) -> Corners: ...

    @property
    def canvas_px(self) -> int: ...

    @property
    def fresh(self) -> bool: ...

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        """From posed to upright coordinates, both in units of half an image's side (not of the canvas's)."""
        ...


@runtime_checkable
class OnBackground(Pose, Protocol):
    """A pose that puts something behind the images, which it moves by whole pixels only: they are not resampled."""

    def background(self, pool_MHWC: Tensor, own_N: Tensor, u_NK: Tensor, size_px: int) -> Tensor:
        """What images that do not fill their canvas show around them, uint8 (N, size_px, size_px, C).

        pool_MHWC: images to take it from. own_N: which of them each image is.
        """
        ...


POSES: Registry[Callable[..., Pose]] = Registry("pose", __name__)


def parse_pose(text: str) -> Pose:
    """Raises UserError for a pose or an option that nobody knows."""
    name, options = split_name(text, "pose")
    if name not in POSES:
        raise UserError(f"pose: {name!r} is unknown; {nearest(name, POSES)}")
    owner = POSES[name]
    try:
        values = {key: typed(owner, name, key, value) for key, value in options.items()}
        return owner(**values)
    except (UserError, ValueError) as error:
        raise UserError(f"pose.{error}") from None


def spell_pose(text: str) -> str:
    """The one spelling of a pose: options at their defaults are left out. Raises UserError as parse_pose does."""
    parse_pose(text)
    name, options = split_name(text, "pose")
    values: dict[str, Value] = {key: typed(POSES[name], name, key, value) for key, value in options.items()}
    return spell(name, values, POSES[name])


def posed_px(text: str, image_px: int) -> int:
    """Side of the images under a pose. Raises UserError for images that are larger than their canvas."""
    canvas_px = parse_pose(text).canvas_px
    if canvas_px and canvas_px < image_px:
        raise UserError(f"pose: {text!r} has a canvas of {canvas_px} px, too small for images of {image_px} px")
    return canvas_px or image_px


def has_background(text: str) -> bool:
    """Whether a pose shows pieces of other images around the image."""
    return isinstance(parse_pose(text), OnBackground)


def check_canvas(canvas_px: int, *, required: bool = False) -> None:
    """Raises ValueError for a side that no canvas has. required: there has to be a canvas, so 0 is none either."""
    if not (MIN_IMAGE_PX <= canvas_px <= MAX_IMAGE_PX or (canvas_px == 0 and not required)):
        none = "" if required else "0 or "
        raise ValueError(f"canvas_px: {canvas_px} is not {none}between {MIN_IMAGE_PX} and {MAX_IMAGE_PX}")


def normal(u_NK: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones, float64, by the inverse of the distribution; within 5.5 of 0."""
    # Draws are multiples of 2^-24: half of one more makes them symmetric, and none of them infinite.
    return math.sqrt(2) * torch.erfinv(2 * (u_NK.double() + 2.0**-25) - 1)


def disc_mask(drawn: PoseMaps, size_px: int) -> Tensor:
    """True where the posed image shows what lies inside the upright image's inscribed disc, (N, H, W, 1).

    A turned image's corners reveal its angle, and so would its frame, wherever it can be seen.
    """
    upright_NM2 = drawn.apply(base_grid(size_px, size_px, drawn.theta_N33.device))
    return (upright_NM2.square().sum(2) <= 1).view(-1, size_px, size_px, 1)


def put_in_pose(
    pixels_NHWC: Tensor,
    index_N: Tensor,
    text: str,
    *,
    part: str,
    pool_MHWC: Tensor | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> tuple[Tensor, PoseMaps]:
    """The images under the pose, uint8 (N, H, W, C), and their true poses.

    index_N: which images of the part they are; the pose of each is a function of (part, index, seed, epoch) alone, and
        the same draws serve every range of a pose. part: `train` or `test`.
    pool_MHWC: all images of the part, on the same device: clutter is cut from them. Not given, the images are all
        there are.
    seed, epoch: of the run that is shown them anew, epochs from 1 on. Not given, the one pose that each image has for
        every run.
    """
    pose = parse_pose(text)
    name, _ = split_name(text, "pose")
    device, image_px = pixels_NHWC.device, pixels_NHWC.shape[1]
    if pose.num_draws == 0:
        return pixels_NHWC, no_pose(len(pixels_NHWC), device)
    size_px = posed_px(text, image_px)
    pool = pixels_NHWC if pool_MHWC is None else pool_MHWC
    own_N = torch.arange(len(index_N), device=device) if pool_MHWC is None else index_N
    at_once = max(1, POSED_AT_ONCE_PX // max(image_px, size_px) ** 2)
    posed, maps = [], []
    for chunk_NHWC, chunk_N, own_chunk_N in zip(
        pixels_NHWC.split(at_once), index_N.split(at_once), own_N.split(at_once), strict=True
    ):
        beat()
        u_NK = uniform(chunk_N, pose.num_draws, seed=seed, epoch=epoch, purpose=f"pose {name} {part}")
        drawn = pose.draw(u_NK, image_px)
        if size_px != image_px:
            drawn = _on_canvas(drawn, size_px / image_px)
        upright_NCHW = chunk_NHWC.permute(0, 3, 1, 2).float()
        if isinstance(pose, OnBackground):
            cover_N1HW = _cover(drawn, image_px, size_px)
            behind_NHWC = pose.background(pool, own_chunk_N, u_NK, size_px)
            x_NCHW = Sampler()(upright_NCHW, drawn, (size_px, size_px))
            x_NCHW = x_NCHW + (1 - cover_N1HW) * behind_NHWC.permute(0, 3, 1, 2)
        else:
            x_NCHW = resample(upright_NCHW, drawn, size_px)
            if pose.corners == "zeros":
                x_NCHW = x_NCHW * _cover(drawn, image_px, size_px)
        x_NHWC = x_NCHW.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        posed.append(x_NHWC * disc_mask(drawn, size_px) if pose.corners == "disc" else x_NHWC)
        maps.append(drawn)
    return torch.cat(posed), _joined(maps)


def _cover(drawn: PoseMaps, image_px: int, size_px: int) -> Tensor:
    """How much of each pixel shows the image and not what is outside its frame, (N, 1, size_px, size_px)."""
    full_N1HW = torch.ones(len(drawn), 1, image_px, image_px, device=drawn.theta_N33.device)
    return Sampler()(full_N1HW, drawn, (size_px, size_px))


def _on_canvas(drawn: PoseMaps, ratio: float) -> PoseMaps:
    """The maps for canvas coordinates, where the canvas is `ratio` times as wide as the image."""
    # A spline's control points lie on the image, so no pose that bends has a canvas.
    assert drawn.bend is None
    grow_33 = torch.diag(torch.tensor([ratio, ratio, 1.0], device=drawn.theta_N33.device))
    return PoseMaps(drawn.theta_N33 @ grow_33)


def _joined(maps: list[PoseMaps]) -> PoseMaps:
    bends = [each.bend.step_BK2 for each in maps if each.bend is not None]
    return PoseMaps(torch.cat([each.theta_N33 for each in maps]), SplineMap(torch.cat(bends)) if bends else None)


def affine_pose(theta_in_to_out_N23: Tensor) -> PoseMaps:
    """From maps that say where upright points go to the poses that say where posed ones come from."""
    return PoseMaps(AffineMap(theta_in_to_out_N23).inverse().projective().theta_B33)


__all__ = [
    "POSES",
    "Corners",
    "OnBackground",
    "Pose",
    "PoseMaps",
    "affine_pose",
    "check_canvas",
    "disc_mask",
    "has_background",
    "no_pose",
    "normal",
    "parse_pose",
    "posed_px",
    "put_in_pose",
    "spell_pose",
]
