"""Four plain convolutions: the default classifier of this suite's first results."""

from torch import nn

from baselines.backbones import BACKBONES, Backbone


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU; an even kernel with stride 2 halves the map exactly."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=(kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


@BACKBONES.register("cnn4")
def cnn4(*, num_classes: int, image_px: int, in_channels: int, width: float) -> Backbone:
    """Four convolutions, 32 to 128 channels, and a global average; 243,146 parameters for RGB and 10 classes.

    The first layer halves the resolution: at full resolution a layer of few channels costs as much time as all
    others together, since it is bound by memory, not by arithmetic.
    """
    # Smaller ones shrink to one pixel, and a last batch of one image cannot be normalised over one value.
    if image_px < 16:
        raise ValueError(f"backbone cnn4 needs images of 16 px or more, got {image_px}")
    narrow, middle, wide = (max(1, round(n * width)) for n in (32, 64, 128))
    stages = (
        conv_bn_relu(in_channels, narrow, kernel=4, stride=2),
        nn.Sequential(conv_bn_relu(narrow, middle), nn.MaxPool2d(2)),
        nn.Sequential(conv_bn_relu(middle, wide), nn.MaxPool2d(2)),
        conv_bn_relu(wide, wide),
    )
    return Backbone(stages, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, num_classes)))
