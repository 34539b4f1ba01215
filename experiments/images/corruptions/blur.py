"""Blurs. Levels are CIFAR-10-C's."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.images.corruptions.corruption import CIFAR_PX, corruption
from stn.blur import blur
from stn.maps import AffineMap
from stn.sampler import Sampler


@corruption("photometric", "gaussian_blur", 0.4, 0.6, 0.7, 0.8, 1.0, is_extra=True)
def gaussian_blur(x_BCHW: Tensor, u_BK: Tensor, sigma_px: float) -> Tensor:
    """A normal kernel of this standard deviation."""
    return blur(x_BCHW, sigma_px * x_BCHW.shape[3] / CIFAR_PX)


@corruption("photometric", "defocus_blur", (0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
def defocus_blur(x_BCHW: Tensor, u_BK: Tensor, level: tuple[float, float]) -> Tensor:
    """A disc of this radius, itself smoothed over 3 x 3 pixels by this standard deviation, both in pixels."""
    radius_px, sigma_px = (length * x_BCHW.shape[3] / CIFAR_PX for length in level)
    kernel_KK = disc_kernel(radius_px, sigma_px).to(x_BCHW.device, x_BCHW.dtype)
    channels, reach = x_BCHW.shape[1], len(kernel_KK) // 2
    padded_BCHW = F.pad(x_BCHW, (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(padded_BCHW, kernel_KK.expand(channels, 1, -1, -1), groups=channels)


def disc_kernel(radius_px: float, sigma_px: float) -> Tensor:
    """(K, K), float32 on the CPU; its sum is 1."""
    reach = int(radius_px) + 1
    square_K = torch.arange(-reach, reach + 1, dtype=torch.float64, device="cpu") ** 2
    disc_KK = (square_K[:, None] + square_K <= radius_px**2).double()
    smooth_3 = (-torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64, device="cpu") / (2 * sigma_px**2)).exp()
    smooth_33 = smooth_3[:, None] * smooth_3
    kernel_KK = F.conv2d(disc_KK[None, None], smooth_33[None, None], padding=1)[0, 0]
    return (kernel_KK / kernel_KK.sum()).float()


@corruption("photometric", "motion_blur", (6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5), num_draws=1)
def motion_blur(x_BCHW: Tensor, u_B1: Tensor, level: tuple[int, float]) -> Tensor:
    """A trail of normal weights to one side, of this reach and standard deviation in pixels, turned U(-45, 45) degrees.

    The border is repeated. Points between pixels are interpolated, where ImageMagick takes the nearest.
    """
    reach, sigma_px = level[0], level[1] * x_BCHW.shape[3] / CIFAR_PX
    # ImageMagick's kernel has 2 * reach + 1 pixels; those beyond four standard deviations weigh nothing.
    num_taps = min(round((2 * reach + 1) * x_BCHW.shape[3] / CIFAR_PX), math.ceil(4 * sigma_px) + 1)
    weights = [math.exp(-(tap**2) / (2 * sigma_px**2)) for tap in range(num_taps)]
    angle_B = (2 * u_B1[:, 0] - 1) * math.radians(45)
    step_B2 = torch.stack([angle_B.cos(), angle_B.sin()], dim=1) * 2 / x_BCHW.shape[3]
    straight_B22 = torch.eye(2, device=x_BCHW.device).expand(len(x_BCHW), 2, 2)
    sampler = Sampler(padding="border")
    sum_BCHW = torch.zeros_like(x_BCHW)
    for tap, weight in enumerate(weights):
        where = AffineMap(torch.cat([straight_B22, tap * step_B2[:, :, None]], dim=2))
        sum_BCHW += weight / sum(weights) * sampler(x_BCHW, where)
    return sum_BCHW
