"""The small classifier of PyTorch's spatial transformer tutorial, with RGB input."""

from torch import nn

from baselines.backbones import BACKBONES, Backbone


@BACKBONES.register("lenet")
def lenet(*, num_classes: int, image_px: int, in_channels: int, width: float) -> Backbone:
    """Two 5x5 convolutions and two dense layers with dropout; 31,340 parameters for 32x32 RGB and 10 classes.

    Source: the classifier of PyTorch's spatial transformer tutorial (10 and 20 filters, 50 hidden units).
    """
    map_px = ((image_px - 4) // 2 - 4) // 2
    if map_px < 1:
        raise ValueError(f"backbone lenet needs images of 16 px or more, got {image_px}")
    channels1, channels2, hidden = (max(1, round(n * width)) for n in (10, 20, 50))
    stages = (
        nn.Sequential(nn.Conv2d(in_channels, channels1, kernel_size=5), nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(channels1, channels2, kernel_size=5), nn.Dropout2d(0.5), nn.MaxPool2d(2), nn.ReLU()),
    )
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels2 * map_px * map_px, hidden),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(hidden, num_classes),
    )
    return Backbone(stages, head)
