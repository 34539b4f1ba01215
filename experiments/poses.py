"""Poses: how each image of a task is disturbed, once and for all, before anyone trains.

Legend: N images, C channels, H rows, W columns.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from experiments.draws import uniform
from experiments.errors import UserError, nearest
from stn.affine import from_parts, inverse
from stn.sampler import warp


def rotated(u_NK: Tensor) -> Tensor:
    """R: rotation U(-90, 90) deg. Source: Jaderberg et al. 2015, section 4.1."""
    return from_parts(angle_rad_B=(2 * u_NK[:, 0] - 1) * math.pi / 2)


def rotated_scaled_shifted(u_NK: Tensor) -> Tensor:
    """RTS: rotation U(-45, 45) deg, scale U(0.7, 1.2), shift U(-5/32, 5/32) of the side.

    Source: Jaderberg et al. 2015, section 4.1, where a 28-pixel digit is placed at random on 42 pixels; natural
    images fill their frame, so the shift is bounded by what keeps most of the picture in it.
    """
    return from_parts(
        angle_rad_B=(2 * u_NK[:, 0] - 1) * math.pi / 4,
        log_scale_B=(0.7 + 0.5 * u_NK[:, 1]).log(),
        shift_B2=(2 * u_NK[:, 2:4] - 1) * 2 * 5 / 32,
    )


POSES: dict[str, Callable[[Tensor], Tensor] | None] = {
    "upright": None,
    "R": rotated,
    "RTS": rotated_scaled_shifted,
}
"""Maps from uniform numbers (N, 4) to thetas (N, 2, 3) from the upright image to the posed one; None leaves it be."""


def check_pose(pose: str) -> None:
    """Raises UserError for a pose that nobody knows."""
    if pose not in POSES:
        raise UserError(f"pose: {pose!r} is unknown; {nearest(pose, POSES)}")


def disc_mask(size_px: int, device: torch.device) -> Tensor:
    """True inside the circle that touches the image's edges, (H, W): corners of a turned image reveal its angle."""
    centre_px = torch.arange(size_px, device=device) - (size_px - 1) / 2
    return centre_px[:, None] ** 2 + centre_px[None, :] ** 2 <= (size_px / 2) ** 2


def put_in_pose(pixels_NHWC: Tensor, index_N: Tensor, pose: str, *, part: str) -> Tensor:
    """The images under the pose, uint8 (N, H, W, C), masked to their inscribed disc unless upright.

    index_N: which images of the part they are; the pose of each is a function of (part, index) alone, so it is the
        same for every run. part: `train` or `test`.
    """
    draw_theta = POSES[pose]
    if draw_theta is None:
        return pixels_NHWC
    mask_HW1 = disc_mask(pixels_NHWC.shape[1], pixels_NHWC.device)[:, :, None]
    posed = []
    for chunk_NHWC, chunk_N in zip(pixels_NHWC.split(2048), index_N.split(2048), strict=True):
        theta_in_to_out_N23 = draw_theta(uniform(chunk_N, 4, seed=0, epoch=0, purpose=f"pose {pose} {part}"))
        x_NCHW = chunk_NHWC.permute(0, 3, 1, 2).float()
        x_NCHW = warp(x_NCHW, inverse(theta_in_to_out_N23))
        posed.append(x_NCHW.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1) * mask_HW1)
    return torch.cat(posed)
