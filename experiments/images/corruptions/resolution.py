"""Losses of detail: coarse pixels, and JPEG's. Levels are CIFAR-10-C's."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.images.corruptions.corruption import corruption

# The example tables of ITU-T T.81 (the JPEG standard), annex K.1, which every encoder scales by its quality.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


@corruption("photometric", "pixelate", 0.95, 0.9, 0.85, 0.75, 0.65)
def pixelate(x_BCHW: Tensor, u_BK: Tensor, share: float) -> Tensor:
    """Means of blocks, this share of the side of them along each axis, and each shown as a block again."""
    size_px = x_BCHW.shape[3]
    num = int(size_px * share)
    # PIL's box filter: a pixel belongs to the block whose bounds, rounded, it lies between.
    bound_J = torch.tensor([int(block * size_px / num + 0.5) for block in range(num + 1)], device=x_BCHW.device)
    pixel_W = torch.arange(size_px, device=x_BCHW.device)
    inside_JW = ((bound_J[:-1, None] <= pixel_W) & (pixel_W < bound_J[1:, None])).to(x_BCHW.dtype)
    mean_JW = inside_JW / inside_JW.sum(1, keepdim=True)
    return F.interpolate(mean_JW @ x_BCHW @ mean_JW.T, (size_px, size_px), mode="nearest-exact")


@corruption("photometric", "jpeg_compression", 80, 65, 58, 50, 40, is_extra=True)
def jpeg_compression(x_BCHW: Tensor, u_BK: Tensor, quality: int) -> Tensor:
    """Written as JPEG of this quality and read again; colours at half the resolution, as encoders do by default.

    Values are taken as 8-bit numbers. Images of other than three channels are written channel by channel as greys.
    """
    height, width = x_BCHW.shape[2:]
    value_BCHW = (255 * x_BCHW).round()
    if x_BCHW.shape[1] != 3:
        return (_quantised(value_BCHW - 128, _LUMINANCE, quality) + 128) / 255
    # ITU-T T.871 (JFIF), section 7.
    weights_33 = x_BCHW.new_tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    ycc_BCHW = torch.einsum("dc,bchw->bdhw", weights_33, value_BCHW).round()
    luma_BHW = (_quantised(ycc_BCHW[:, :1] - 128, _LUMINANCE, quality) + 128)[:, 0]
    # Encoders fill the last blocks' columns before they halve them, their rows after it.
    whole_B2HW = F.pad(ycc_BCHW[:, 1:], (0, -width % 16, 0, height % 2), mode="replicate")
    chroma_B2hw = _quantised(F.avg_pool2d(whole_B2HW, 2).round(), _CHROMINANCE, quality)[..., : (width + 1) // 2]
    chroma_B2HW = F.interpolate(chroma_B2hw, scale_factor=2, mode="bilinear", align_corners=False)
    blue_BHW, red_BHW = chroma_B2HW[:, :, :height, :width].unbind(1)
    rgb = (luma_BHW + 1.402 * red_BHW, luma_BHW - 0.344136 * blue_BHW - 0.714136 * red_BHW, luma_BHW + 1.772 * blue_BHW)
    return torch.stack(rgb, dim=1) / 255


def _quantised(x_BCHW: Tensor, base_88: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """Values around 0 after their cosine transforms, 8 x 8 pixels each, were rounded to multiples of the table's."""
    # The Independent JPEG Group's scaling of the tables.
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    step_88 = ((torch.tensor(base_88, device=x_BCHW.device) * percent + 50) // 100).clamp(1, 255).to(x_BCHW.dtype)
    place_8 = torch.arange(8, device=x_BCHW.device, dtype=x_BCHW.dtype)
    cosine_88 = (math.pi / 8 * place_8[:, None] * (place_8 + 0.5)).cos() / 2
    cosine_88[0] = 1 / math.sqrt(8)
    height, width = x_BCHW.shape[2:]
    whole_BCHW = F.pad(x_BCHW, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = whole_BCHW.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    coarse = (cosine_88 @ blocks @ cosine_88.T / step_88).round() * step_88
    changed_BCHW = (cosine_88.T @ coarse @ cosine_88).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return changed_BCHW[:, :, :height, :width]
