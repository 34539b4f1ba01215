"""How an image is put under a pose: so that what resampling does to it does not tell the pose.

Bilinear sampling keeps an image sharp where its pixels fall on those of the upright one and blurs it between them, in
bands by which a small network tells a turn to two degrees. So an image is taken for a sum of cosines. Those that pixels
cannot show in every direction are left out, since the corners of a square spectrum turn with the image. Through the
rest goes a cubic spline on a finer grid, which misses it by little, wherever pixels fall.

Legend: N images, C channels, H = W rows and columns; h of the finer grid.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from stn.maps import Map
from stn.sampler import cubic_spline

FINER = 2
KEPT, CUT = 0.45, 0.5
"""Cycles a pixel, in any direction: waves are kept whole up to the one, and left out from the other on."""


@lru_cache(maxsize=16)
def _waves(num: int, finer: int, device: torch.device) -> Tensor:
    """The waves of an orthonormal DCT-II on a grid so much finer than its `num` pixels, (finer * num, num), float64."""
    with torch.inference_mode(False):
        at_h = (torch.arange(finer * num, dtype=torch.float64, device="cpu") + 0.5) / (finer * num)
        waves_hH = (math.pi * at_h[:, None] * torch.arange(num, device="cpu")).cos() * math.sqrt(2 / num)
        waves_hH[:, 0] /= math.sqrt(2)
        return waves_hH.to(device)


def _gain(num: int, device: torch.device) -> Tensor:
    """How much of each wave is kept, over what a spline's values have left of its coefficients, (H, W)."""
    cycles_H = torch.arange(num, dtype=torch.float64, device=device) / (2 * num)
    beyond_HW = (torch.hypot(cycles_H[:, None], cycles_H) - KEPT) / (CUT - KEPT)
    kept_HW = 0.5 + 0.5 * (math.pi * beyond_HW.clamp(0, 1)).cos()
    left_H = (2 + (2 * math.pi * cycles_H / FINER).cos()) / 3
    return kept_HW / (left_H[:, None] * left_H)


def resample(x_NCHW: Tensor, where: Map, size_px: int) -> Tensor:
    """float32 images, mirrored at their edges, under maps from the output's coordinates to theirs, without their finest
    waves, (N, C, size_px, size_px)."""
    num, device = x_NCHW.shape[-1], x_NCHW.device
    here_HH, finer_hH = _waves(num, 1, device), _waves(num, FINER, device)
    # The last digits of a matrix product depend, on some CPUs, on how many images there are: in float64 they are lost.
    wave_NCHH = here_HH.mT @ x_NCHW.double() @ here_HH * _gain(num, device)
    return cubic_spline((finer_hH @ wave_NCHH @ finer_hH.mT).float(), where, size_px)
