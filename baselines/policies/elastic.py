"""Random smooth distortions.

Legend: N control points along an axis, h rows, w columns of the sampling grid.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES, Filling, Warp
from baselines.ranges import within

CONTROLS = 8
"""Control displacements along each axis of an image."""


def _smoothing(size_px: int, sigma_px: float, device: torch.device) -> Tensor:
    """Weight of each control value at each pixel along one axis, (size_px, N): a Gaussian, reflected at both ends.

    Scaled so that noise at the controls gives a field of the variance that as much noise at each of 32 pixels would,
    blurred alike.
    """
    # Places along a side of 32.
    pixel_h = (torch.arange(size_px, device=device) + 0.5) * (32 / size_px)
    control_N = (torch.arange(CONTROLS, device=device) + 0.5) * (32 / CONTROLS)
    mirrored_MN = torch.stack([sign * control_N + 64 * turn for turn in (-1, 0, 1) for sign in (1, -1)])
    distance_hMN = (pixel_h[:, None, None] - mirrored_MN) / sigma_px
    weight_hN = torch.exp(-0.5 * distance_hMN**2).sum(1)
    return weight_hN * (math.sqrt(32 / CONTROLS) / (math.sqrt(2 * math.pi) * sigma_px))


@POLICIES.register("elastic")
@dataclass(frozen=True)
class Elastic(Filling):
    """Each pixel displaced by a smooth random field, bilinear.

    alpha: strength. Noise is U(-alpha/2, alpha/2) pixels before it is blurred, so that the displacements' standard
        deviation along each axis is about 0.08 alpha / sigma_px: 0.8 px by default. From 0 to 1000.
    sigma_px: standard deviation of the blur, from 3 to 16.
    Both are of a 32-pixel image, in proportion for other sizes. Raises ValueError for others.
    Sources: Simard et al. 2003, Best Practices for Convolutional Neural Networks, section 2. torchvision's
    ElasticTransform blurs noise at every pixel; here the noise stands on a grid of 8 x 8 control points and is blurred
    in between, so that an image needs 128 numbers whatever its size. Variance and correlation of the field
    are the same to a few per cent, edges included, which is why sigma_px has to be 3/4 of the 4 px between controls.
    """

    num_draws: ClassVar[int] = 2 * CONTROLS**2
    alpha: float = within(0, 1000, 50.0)
    sigma_px: float = within(3, 16, 5.0)

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        # alpha/2 of the 32 pixels that are 2 wide in normalised coordinates.
        return {"noise": (2 * u_BK.view(-1, 2, CONTROLS, CONTROLS) - 1) * (self.alpha / 32)}

    def displacement(self, noise_B2NN: Tensor, height: int, width: int) -> Tensor:
        """How far from itself each pixel is fetched, (B, h, w, 2), as (x, y) in normalised coordinates."""
        down_hN = _smoothing(height, self.sigma_px, noise_B2NN.device)
        along_wN = _smoothing(width, self.sigma_px, noise_B2NN.device)
        return (down_hN @ noise_B2NN @ along_wN.mT).permute(0, 2, 3, 1)

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        height, width = x_BCHW.shape[2:]
        y_h = (2 * torch.arange(height, device=x_BCHW.device) + 1) / height - 1
        x_w = (2 * torch.arange(width, device=x_BCHW.device) + 1) / width - 1
        identity_hw2 = torch.stack(torch.meshgrid(x_w, y_h, indexing="xy"), dim=-1)
        return warp(x_BCHW, identity_hw2 + self.displacement(params["noise"], height, width), self.fill)
