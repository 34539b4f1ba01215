"""Putting images under a pose.

Legend: N images, C channels, H rows, W columns, K uniform numbers an image, M images of a part, 2 x and y.
"""

import torch
from torch import Tensor

from experiments.images.draws import uniform
from experiments.images.poses.pose import OnBackground, parse_pose, posed_px
from experiments.images.poses.pose_maps import PoseMaps, no_pose
from experiments.images.resampling import resample
from experiments.machine.heartbeat import beat
from ledger.options import split_name
from stn.sampler import Sampler, base_grid
from stn.spline import SplineMap

POSED_AT_ONCE_PX = 2048 * 32 * 32
"""Pixels of the images that are posed together: what memory that takes grows with it."""


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
    if pose.num_draws == 0 and pose.corners != "disc":
        return pixels_NHWC, no_pose(len(pixels_NHWC), device)
    size_px = posed_px(text, image_px)
    pool = pixels_NHWC if pool_MHWC is None else pool_MHWC
    own_N = torch.arange(len(index_N), device=device) if pool_MHWC is None else index_N
    at_once = max(1, POSED_AT_ONCE_PX // max(image_px, size_px) ** 2)
    posed, maps = [], []
    for chunk_NHWC, chunk_N, own_chunk_N in zip(
        *(whole.split(at_once) for whole in (pixels_NHWC, index_N, own_N)), strict=True
    ):
        beat()
        u_NK = uniform(chunk_N, pose.num_draws, seed=seed, epoch=epoch, purpose=f"pose {name} {part}")
        drawn = pose.draw(u_NK, image_px)
        if size_px != image_px:
            drawn = _on_canvas(drawn, size_px / image_px)
        upright_NCHW = chunk_NHWC.permute(0, 3, 1, 2).float()
        if isinstance(pose, OnBackground):
            behind_NHWC = pose.background(pool, own_chunk_N, u_NK, size_px)
            x_NCHW = Sampler()(upright_NCHW, drawn, (size_px, size_px))
            x_NCHW = x_NCHW + (1 - _cover(drawn, image_px, size_px)) * behind_NHWC.permute(0, 3, 1, 2)
        else:
            x_NCHW = resample(upright_NCHW, drawn, size_px)
            if pose.corners == "zeros":
                x_NCHW = x_NCHW * _cover(drawn, image_px, size_px)
        x_NHWC = x_NCHW.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        posed.append(x_NHWC * disc_mask(drawn, size_px) if pose.corners == "disc" else x_NHWC)
        maps.append(drawn)
    steps = [drawn.bend.step_BK2 for drawn in maps if drawn.bend is not None]
    theta_N33 = torch.cat([drawn.theta_N33 for drawn in maps])
    return torch.cat(posed), PoseMaps(theta_N33, SplineMap(torch.cat(steps)) if steps else None)


def disc_mask(drawn: PoseMaps, size_px: int) -> Tensor:
    """True where the posed image shows what lies inside the upright image's inscribed disc, (N, H, W, 1).

    A turned image's corners reveal its angle, and so would its frame, wherever it can be seen.
    """
    upright_NM2 = drawn.apply(base_grid(size_px, size_px, drawn.theta_N33.device))
    return (upright_NM2.square().sum(2) <= 1).view(-1, size_px, size_px, 1)


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
