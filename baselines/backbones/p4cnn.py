"""Backbone `cnn4` made equivariant to quarter turns: convolutions over the group p4.

Maps on p4 are ordinary ones of 4 * C channels (B, 4 * C, H, W), the orientation first: channel r * C + c holds c under
r quarter turns. Turning the images by torch.rot90 turns every map and moves its orientations on by one, cyclically.

Source: Cohen & Welling 2016, Group Equivariant Convolutional Networks, arXiv:1602.07576.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.backbones import BACKBONES, Backbone

NUM_TURNS = 4


class P4Conv2d(nn.Module):
    """Convolution over p4, without bias: from images, or from maps on p4, to maps on p4.

    Every filter is used in four orientations. They are stacked into one weight, so that an ordinary convolution, with
    whatever speed the device has for it, does the work.

    in_turns: 1 for images (the lifting convolution), NUM_TURNS for maps on p4.
    kernel: an even one with stride 2 halves an even map exactly, an odd one with stride 1 keeps its size; either keeps
        the centre of the map where it is, which equivariance needs.
    """

    def __init__(self, in_turns: int, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.in_turns, self.stride, self.padding = in_turns, stride, (kernel - 1) // 2
        # Four dimensions, so that the memory format of images can be asked for.
        self.weight = nn.Parameter(torch.empty(out_channels, in_turns * in_channels, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Conv2d

    def filters(self) -> Tensor:
        """The weight in all orientations, (4 * out_channels, in_turns * in_channels, kernel, kernel)."""
        weight_OTIHW = self.weight.unflatten(1, (self.in_turns, -1))
        # A filter on p4 that is turned also moves on along its own orientations.
        turned = [self.moved(weight_OTIHW.roll(turn, 1), turn) for turn in range(NUM_TURNS)]
        return torch.cat(turned).flatten(1, 2)

    def moved(self, weight_OTIHW: Tensor, turn: int) -> Tensor:
        """What an element of the group, `turn` times its generator, makes of filters."""
        return weight_OTIHW.rot90(turn, (-2, -1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images or maps on p4 to maps on p4."""
        return F.conv2d(x_BCHW, self.filters(), stride=self.stride, padding=self.padding)


class P4BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of maps on p4: statistics, scale and shift of a channel are those of all its orientations."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Maps on p4 to maps on p4."""
        # The orientations go beside the columns: with channels last, that is a view of the same memory.
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        wide_BCHW = x_BHWC.unflatten(3, (NUM_TURNS, -1)).flatten(2, 3).permute(0, 3, 1, 2)
        normal_BHWC = super().forward(wide_BCHW).permute(0, 2, 3, 1)
        return normal_BHWC.unflatten(2, (-1, NUM_TURNS)).flatten(3, 4).permute(0, 3, 1, 2)


class P4Invariant(nn.Module):
    """What is left of maps on p4 when the place is averaged out and the strongest orientation taken, (B, C)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Maps on p4 (B, 4 * C, H, W) to (B, C), which no quarter turn of the images changes."""
        return x_BCHW.mean((2, 3)).unflatten(1, (NUM_TURNS, -1)).amax(1)


def group_cnn(conv: type[P4Conv2d], *, num_classes: int, in_channels: int, width: float) -> Backbone:
    """Backbone `cnn4` with half the channels in the four elements of a group. conv: convolution over that group."""

    def conv_bn_relu(
        in_turns: int, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1
    ) -> nn.Sequential:
        layer = conv(in_turns, in_channels, out_channels, kernel, stride)
        return nn.Sequential(layer, P4BatchNorm2d(out_channels), nn.ReLU(inplace=True))

    narrow, middle, wide = (max(1, round(n * width)) for n in (16, 32, 64))
    stages = (
        conv_bn_relu(1, in_channels, narrow, kernel=4, stride=2),
        nn.Sequential(conv_bn_relu(NUM_TURNS, narrow, middle), nn.MaxPool2d(2)),
        nn.Sequential(conv_bn_relu(NUM_TURNS, middle, wide), nn.MaxPool2d(2)),
        conv_bn_relu(NUM_TURNS, wide, wide),
    )
    return Backbone(stages, nn.Sequential(P4Invariant(), nn.Linear(wide, num_classes)))


@BACKBONES.register("p4cnn")
def p4cnn(*, num_classes: int, image_px: int, in_channels: int, width: float) -> Backbone:
    """Backbone `cnn4` with half the channels in four orientations; 241,386 parameters for RGB and 10 classes.

    Its logits are the same for an image and its quarter turns, up to rounding: the last map is averaged over places,
    then the maximum over orientations is taken. Almost as many parameters as `cnn4`, four times the arithmetic.
    """
    if image_px < 16:
        raise ValueError(f"backbone p4cnn needs images of 16 px or more, got {image_px}")
    if image_px % 8:  # an odd map cannot be halved around its centre, and it is halved three times
        raise ValueError(f"backbone p4cnn needs images of a multiple of 8 px, got {image_px}")
    return group_cnn(P4Conv2d, num_classes=num_classes, in_channels=in_channels, width=width)
