"""The sampler: the one place that calls grid_sample.

Legend: B images, C channels, H rows, W columns of the input; h rows, w columns of the output; N = h*w points.
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stn.linearised import linear_term
from stn.maps import AffineMap, Map, ProjectiveMap

Padding = Literal["zeros", "border", "reflection"]
Gradient = Literal["bilinear", "linearised"]
Fill = Literal["black", "border", "reflection", "mean"]


@lru_cache(maxsize=64)
def base_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Centres (x, y) of the output's pixels, (h*w, 2), float32, normalised to [-1, 1].

    (2i + 1)/W - 1 is exact in float32 for sizes that are powers of two, so that the identity warp returns
    its input bit for bit. `F.affine_grid` computes it less exactly, and anew for each batch.
    """
    # An inference tensor could not be used in training, and this one is kept for every later caller.
    with torch.inference_mode(False):
        x_w = (2 * torch.arange(width, dtype=torch.float64, device="cpu") + 1) / width - 1
        y_h = (2 * torch.arange(height, dtype=torch.float64, device="cpu") + 1) / height - 1
        x_hw, y_hw = x_w.expand(height, width), y_h[:, None].expand(height, width)
        return torch.stack([x_hw, y_hw], dim=-1).reshape(-1, 2).to(device, torch.float32)


@dataclass(frozen=True)
class Sampler:
    """How an image is resampled under a map.

    padding: what lies outside the input. Zeros are black for raw pixels in [0, 1] and the mean colour after
        normalisation, where they let a network find the border: warp raw pixels.
    anti_alias: average 2x2 points for each output pixel: bilinear sampling alone skips pixels where it shrinks
        (Jaderberg et al. 2015, section 3.3, warn of it). The identity then is no longer exact.
    gradient: how the map is told where to go: by the bilinear weights of the four pixels around each point, or by a
        plane fitted to a wider neighbourhood, see stn/linearised.py. Forward values are the same.
    Geometry is computed in float32 whatever the autocast; pixels keep their floating-point type.
    Source: Jaderberg et al. 2015, Spatial Transformer Networks, sections 3.2 and 3.3, equations 1 and 5.
    """

    padding: Padding = "zeros"
    anti_alias: bool = False
    gradient: Gradient = "bilinear"

    def __call__(self, x_BCHW: Tensor, where: Map, size_px: tuple[int, int] | None = None) -> Tensor:
        """Each image under its own map: (B, C, h, w), in the input's memory format.

        size_px: rows and columns of the output; the input's by default.
        """
        height, width = size_px or (x_BCHW.shape[2], x_BCHW.shape[3])
        finer = 2 if self.anti_alias else 1
        with torch.autocast(x_BCHW.device.type, enabled=False):
            grid_BN2 = where.apply(base_grid(finer * height, finer * width, x_BCHW.device))
            grid_BhwX = grid_BN2.view(-1, finer * height, finer * width, 2)
            sampled_BChw = self.at(x_BCHW.float(), grid_BhwX)
            if finer > 1:
                sampled_BChw = F.avg_pool2d(sampled_BChw, finer)
        # grid_sample forgets the format.
        channels_last = x_BCHW.is_contiguous(memory_format=torch.channels_last)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return sampled_BChw.to(x_BCHW.dtype, memory_format=memory_format)

    def at(self, x_BCHW: Tensor, grid_BhwX: Tensor) -> Tensor:
        """float32 images at float32 points (B, h, w, 2)."""

        def sample(points_BhwX: Tensor) -> Tensor:
            return F.grid_sample(x_BCHW, points_BhwX, "bilinear", self.padding, align_corners=False)

        if self.gradient == "bilinear" or not grid_BhwX.requires_grad:
            return sample(grid_BhwX)
        return sample(grid_BhwX.detach()) + linear_term(sample, grid_BhwX, x_BCHW.shape[2:])


def cubic_spline(x_BCHW: Tensor, where: Map, size_px: int) -> Tensor:
    """The cubic B-splines with these coefficients under maps, mirrored at their edges, (B, C, size_px, size_px).

    Along each axis two of a point's four pixels are weighed together by one bilinear sample between them.
    Source: Sigg and Hadwiger 2005, Fast Third-Order Texture Filtering, GPU Gems 2, chapter 20.
    """
    num = x_BCHW.shape[-1]
    place_BN2 = ((where.apply(base_grid(size_px, size_px, x_BCHW.device)) + 1) * num - 1) / 2
    before_BN2 = place_BN2.floor()
    t_BN2 = place_BN2 - before_BN2
    first_BN2, second_BN2, last_BN2 = (1 - t_BN2) ** 3 / 6, (4 - 6 * t_BN2**2 + 3 * t_BN2**3) / 6, t_BN2**3 / 6
    low_BN2 = first_BN2 + second_BN2
    pairs = (
        (low_BN2, before_BN2 - 1 + second_BN2 / low_BN2),
        (1 - low_BN2, before_BN2 + 1 + last_BN2 / (1 - low_BN2)),
    )
    sampled_BCM = x_BCHW.new_zeros(())
    for (weight_x, at_x), (weight_y, at_y) in itertools.product(pairs, pairs):
        grid_BN2 = (2 * torch.stack([at_x[..., 0], at_y[..., 1]], dim=-1) + 1) / num - 1
        sample_BCN1 = F.grid_sample(x_BCHW, grid_BN2[:, :, None], "bilinear", "reflection", align_corners=False)
        sampled_BCM = sampled_BCM + (weight_x[..., 0] * weight_y[..., 1])[:, None] * sample_BCN1[..., 0]
    return sampled_BCM.unflatten(2, (size_px, size_px))


def warp(x_BCHW: Tensor, theta_out_to_in: Tensor, fill: Fill = "black") -> Tensor:
    """Resample each image bilinearly: (B, C, H, W), in the input's memory format.

    theta_out_to_in: affine (B, 2, 3) or projective (B, 3, 3) maps from output to input coordinates, so that a scale
        of 2 shrinks the picture; or the points themselves, (B, H, W, 2).
    fill: what lies outside an image of pixels in [0, 1]: padding of these names, zeros, or the image's mean colour.
    """
    if fill == "mean":  # what is as far from the mean as zeros are
        mean_BC11 = x_BCHW.contiguous().mean((2, 3), keepdim=True)  # the same in any memory format
        return (warp(x_BCHW - mean_BC11, theta_out_to_in) + mean_BC11).clamp(0, 1)
    sampler = Sampler("zeros" if fill == "black" else fill)
    if theta_out_to_in.ndim == 4:
        return sampler(x_BCHW, _Points(theta_out_to_in.float().flatten(1, 2)))
    is_affine = theta_out_to_in.shape[1] == 2
    return sampler(x_BCHW, (AffineMap if is_affine else ProjectiveMap)(theta_out_to_in.float()))


class _Points:
    """A map that is known at the output's pixels only."""

    def __init__(self, points_BN2: Tensor) -> None:
        self.points_BN2 = points_BN2

    def apply(self, points: Tensor) -> Tensor:
        return self.points_BN2
