"""The bilinear sampler: the one place that calls grid_sample.

Legend: B images, C channels, H rows, W columns of the input; h rows, w columns of the output.
"""

from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["zeros", "border", "reflection"]


@lru_cache(maxsize=32)
def base_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Homogeneous centres (x, y, 1) of the output's pixels, (h*w, 3), float32, normalised to [-1, 1].

    (2i + 1)/W - 1 is exact in float32 for sizes that are powers of two, so that the identity warp returns
    its input bit for bit. `F.affine_grid` computes it less exactly, and anew for each batch.
    """
    # An inference tensor could not be used in training, and this one is kept for every later caller.
    with torch.inference_mode(False):
        x_w = (2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1
        y_h = (2 * torch.arange(height, dtype=torch.float64) + 1) / height - 1
        x_hw, y_hw = x_w.expand(height, width), y_h[:, None].expand(height, width)
        grid_hw3 = torch.stack([x_hw, y_hw, torch.ones_like(x_hw)], dim=-1)
        return grid_hw3.reshape(-1, 3).to(device, torch.float32)


def warp(
    x_BCHW: Tensor,
    theta_out_to_in_B23: Tensor,
    *,
    padding: Padding = "zeros",
    size_px: tuple[int, int] | None = None,
) -> Tensor:
    """Resample each image bilinearly under its own affine map: (B, C, h, w), in the input's memory format.

    theta_out_to_in_B23: maps output coordinates to input coordinates, so a scale of 2 in it shrinks the picture.
    padding: what lies outside the input. Zeros are black for raw pixels in [0, 1] and the mean colour after
        normalisation, where they let a network find the border: warp raw pixels.
    size_px: rows and columns of the output; the input's by default.
    Geometry is computed in float32 whatever the autocast; pixels keep their floating-point type.
    Source: Jaderberg et al. 2015, Spatial Transformer Networks, sections 3.2 and 3.3, equations 1 and 5.
    """
    height, width = size_px or (x_BCHW.shape[2], x_BCHW.shape[3])
    with torch.autocast(x_BCHW.device.type, enabled=False):
        grid_N3 = base_grid(height, width, x_BCHW.device)
        grid_BN2 = grid_N3 @ theta_out_to_in_B23.float().mT
        grid_BhwX = grid_BN2.view(-1, height, width, 2)
        sampled_BChw = F.grid_sample(x_BCHW.float(), grid_BhwX, "bilinear", padding, align_corners=False)
    # grid_sample forgets the format.
    channels_last = x_BCHW.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return sampled_BChw.to(x_BCHW.dtype, memory_format=memory_format)
