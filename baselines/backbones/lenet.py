"""The small classifier of PyTorch's spatial transformer tutorial, with RGB input."""

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.backbones import BACKBONES


@BACKBONES.register("lenet")
class LeNet(nn.Module):
    """Two 5x5 convolutions and two dense layers with dropout; 31,340 parameters for 32x32 RGB and 10 classes.

    Source: the classifier of PyTorch's spatial transformer tutorial (10 and 20 filters, 50 hidden units).
    """

    def __init__(self, *, num_classes: int, image_px: int, in_channels: int, width: float) -> None:
        super().__init__()
        map_px = ((image_px - 4) // 2 - 4) // 2
        if map_px < 1:
            raise ValueError(f"backbone lenet needs images of 16 px or more, got {image_px}")
        channels1, channels2, hidden = (max(1, round(n * width)) for n in (10, 20, 50))
        self.conv1 = nn.Conv2d(in_channels, channels1, kernel_size=5)
        self.conv2 = nn.Conv2d(channels1, channels2, kernel_size=5)
        self.dense1 = nn.Linear(channels2 * map_px * map_px, hidden)
        self.dense2 = nn.Linear(hidden, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) to logits (B, num_classes)."""
        x_BCHW = F.relu(F.max_pool2d(self.conv1(x_BCHW), 2))
        x_BCHW = F.relu(F.max_pool2d(F.dropout2d(self.conv2(x_BCHW), 0.5, self.training), 2))
        x_BF = F.relu(self.dense1(x_BCHW.flatten(1)))
        return self.dense2(F.dropout(x_BF, 0.5, self.training))
