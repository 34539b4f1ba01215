"""Localisation networks: from an image to the numbers that say where to look.

Legend: B images, C channels, H rows, W columns, P parameters of the transformation.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class LeNetLocalisation(nn.Module):
    """Two convolutions and two dense layers; 8,544 parameters for an affine map of 32x32 RGB images.

    Images of other sizes are pooled to the 4x4 map that 32x32 images give, so the parameters do not depend on size.
    Raises ValueError if the images are too small for its convolutions.
    The last layer starts at zero, so every image starts with the same transformation: the identity.
    Source: the localisation network of PyTorch's spatial transformer tutorial, with RGB input;
    zero start: Jaderberg et al. 2015, section 4.1 and appendix.
    """

    def __init__(self, in_channels: int, num_params: int, image_px: int = 32) -> None:
        super().__init__()
        if image_px < 18:
            raise ValueError(f"the localisation network needs images of 18 px or more, got {image_px}")
        self.conv1 = nn.Conv2d(in_channels, 8, kernel_size=7)
        self.conv2 = nn.Conv2d(8, 10, kernel_size=5)
        self.dense1 = nn.Linear(10 * 4 * 4, 32)
        self.dense2 = nn.Linear(32, num_params)
        nn.init.zeros_(self.dense2.weight)
        nn.init.zeros_(self.dense2.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W), H and W at least 18 px, to (B, P)."""
        x_BCHW = F.relu(F.max_pool2d(self.conv1(x_BCHW), 2))
        x_BCHW = F.relu(F.max_pool2d(self.conv2(x_BCHW), 2))
        if x_BCHW.shape[2:] != (4, 4):
            x_BCHW = F.adaptive_avg_pool2d(x_BCHW, 4)
        x_BF = F.relu(self.dense1(x_BCHW.flatten(1)))
        return self.dense2(x_BF)
