"""Linearised multi-sampling: a gradient for the map from a wider neighbourhood than four pixels.

Bilinear interpolation tells a map only how the two nearest rows and columns differ, which in a textured image is noise.
Here the intensities around each point are fitted by a plane, whose slope takes the place of the bilinear gradient.
Source: Jiang, Sun, Tagliasacchi, Trulls and Yi 2019, Linearized Multi-Sampling for Differentiable Image Transformation,
section 3. There the auxiliary points are drawn from a normal distribution; here they are fixed, in two rings, so that
a run needs no draws and the least-squares fit has a closed form.

Legend: B images, C channels, h rows, w columns of the output, 2 their x and y.
"""

from collections.abc import Callable

import torch
from torch import Tensor

RINGS_PX = (1.5, 3.0)
"""Distances of the auxiliary points, in pixels of the input; four on each ring, the second turned by 45 degrees."""


def offsets_px() -> list[tuple[float, float]]:
    """The auxiliary points (x, y) around a sample."""
    near, far = RINGS_PX
    diagonal = far / 2**0.5
    straight = [(near, 0.0), (-near, 0.0), (0.0, near), (0.0, -near)]
    return straight + [(a * diagonal, b * diagonal) for a in (-1, 1) for b in (-1, 1)]


def linear_term(sample: Callable[[Tensor], Tensor], grid_BhwX: Tensor, size_px: tuple[int, ...]) -> Tensor:
    """Zero, (B, C, h, w), whose gradient towards the grid is the slope of the planes around its points.

    sample: intensities (B, C, h, w) at points (B, h, w, 2). size_px: rows and columns of the input.
    """
    height, width = size_px
    with torch.no_grad():
        centre_BhwX = grid_BhwX.detach()
        slope_x_BChw = slope_y_BChw = torch.zeros((), device=grid_BhwX.device)
        square_sum_px = 0.0
        for x_px, y_px in offsets_px():
            step_X = centre_BhwX.new_tensor([2 * x_px / width, 2 * y_px / height])
            value_BChw = sample(centre_BhwX + step_X)
            slope_x_BChw = slope_x_BChw + x_px * value_BChw
            slope_y_BChw = slope_y_BChw + y_px * value_BChw
            square_sum_px += x_px**2
        # The points are symmetric about the sample, so the normal equations are diagonal.
        slope_x_BChw = slope_x_BChw / square_sum_px * (width / 2)
        slope_y_BChw = slope_y_BChw / square_sum_px * (height / 2)
    moved_BhwX = grid_BhwX - centre_BhwX
    return slope_x_BChw * moved_BhwX[:, None, :, :, 0] + slope_y_BChw * moved_BhwX[:, None, :, :, 1]
