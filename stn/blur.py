"""Coarse to fine: while training is young, a transformer is steered by blurred images, whose gradients reach further.

Source: the image pyramids of Lucas and Kanade 1981; annealed over training as in Lin et al. 2021, BARF, section 3.3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLURRED_SHARE = 0.5
"""Share of training after which images are sharp."""


def sigma_px(start_px: float, progress: float) -> float:
    """Standard deviation of the blur: falls linearly from start_px to 0. progress: share of training that is done."""
    return start_px * max(0.0, 1 - progress / BLURRED_SHARE)


def blur(x_BCHW: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of standard deviation `sigma` px, borders repeated; under a tenth of a pixel the image itself."""
    if sigma < 0.1:
        return x_BCHW
    reach = min(math.ceil(3 * sigma), min(x_BCHW.shape[2:]) - 1)
    offset_K = torch.arange(-reach, reach + 1, device=x_BCHW.device, dtype=x_BCHW.dtype)
    kernel_K = (-0.5 * (offset_K / sigma) ** 2).exp()
    kernel_K = kernel_K / kernel_K.sum()
    channels = x_BCHW.shape[1]
    for kernel, padding in (
        (kernel_K.view(1, 1, 1, -1), (reach, reach, 0, 0)),
        (kernel_K.view(1, 1, -1, 1), (0, 0, reach, reach)),
    ):
        x_BCHW = F.pad(x_BCHW, padding, mode="replicate")
        x_BCHW = F.conv2d(x_BCHW, kernel.expand(channels, -1, -1, -1), groups=channels)
    return x_BCHW
