"""A control for `p4cnn`: the same network, over a group of four that has nothing to do with how images are posed.

The group is that of quarter turns of the colours about the grey axis. Why that one: shifts are in every convolution
already; mirror images are what most pictures show, too; three channels have no permutation of order four.
"""

import math

from torch import Tensor

from baselines.backbones import BACKBONES, Backbone
from baselines.backbones.p4cnn import P4Conv2d, group_cnn


def hue_turned(x: Tensor, quarters: int, dim: int) -> Tensor:
    """RGB colours turned by quarters of the circle about the grey axis; of any number of RGB triples along `dim`.

    What has no colours stays as it is.
    """
    if x.shape[dim] % 3:
        return x
    rgb, dim = x.unflatten(dim, (-1, 3)), dim + 1
    for _ in range(quarters % 4):
        # What is grey stays; the rest becomes its cross product with the axis.
        rgb = rgb.mean(dim, keepdim=True) + (rgb.roll(1, dim) - rgb.roll(-1, dim)) / math.sqrt(3)
    return rgb.flatten(dim - 1, dim)


class Hue4Conv2d(P4Conv2d):
    """Convolution over the group: a filter of images is used in four hues; what comes after moves on with them."""

    def moved(self, weight_OTIHW: Tensor, turn: int) -> Tensor:
        return hue_turned(weight_OTIHW, turn, dim=2) if self.in_turns == 1 else weight_OTIHW


@BACKBONES.register("hue4cnn")
def hue4cnn(*, num_classes: int, image_px: int, in_channels: int, width: float) -> Backbone:
    """A control: backbone `p4cnn` with four hues in place of four orientations; as many parameters, as much arithmetic.

    Its logits are the same for an image and for the same with its colours, once normalised, turned by quarters of the
    circle about grey, which no pose does. Where `p4cnn` gains over `cnn4` and this does not, the turns are why, and not
    that it looks four times. Grey images have one hue, which is looked at four times.
    Why such a control: arXiv:2606.01090, where a group of equal size that fits nothing is worse than none.
    """
    if image_px < 16:
        raise ValueError(f"backbone hue4cnn needs images of 16 px or more, got {image_px}")
    return group_cnn(Hue4Conv2d, num_classes=num_classes, in_channels=in_channels, width=width)
