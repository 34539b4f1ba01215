"""The fully connected network that spatial transformers were first shown on."""

import math

from torch import nn

from baselines.backbones import BACKBONES, Backbone

NUM_PARAMETERS = 400_000
"""About as many as every network of the paper's experiments on distorted MNIST has."""


@BACKBONES.register("fcn")
def fcn(*, num_classes: int, image_px: int, in_channels: int, width: float) -> Backbone:
    """Two hidden layers of as many units as make about 400,000 parameters of any size of image.

    Source: Jaderberg et al. 2015, Spatial Transformer Networks, section 4.1, of whose grey images of 28 px 349 units
    make as many parameters.

    There are no feature maps: its one stage passes the image on.
    """
    num_inputs = in_channels * image_px**2
    hidden = max(1, round(width * _hidden(num_inputs, num_classes)))
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_inputs, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, num_classes),
    )
    return Backbone([nn.Identity()], head)


def _hidden(num_inputs: int, num_classes: int) -> int:
    """The number of hidden units, at least one, whose parameters come closest to NUM_PARAMETERS."""

    def num_parameters(hidden: int) -> int:
        return hidden**2 + (num_inputs + num_classes + 2) * hidden + num_classes

    linear = num_inputs + num_classes + 2
    below = int((math.sqrt(linear**2 + 4 * NUM_PARAMETERS) - linear) / 2)
    return min((max(1, below), below + 1), key=lambda hidden: abs(num_parameters(hidden) - NUM_PARAMETERS))
