"""The control for size: a plain backbone, widened until it has as many parameters as the spatial transformer's."""

from dataclasses import dataclass

import torch

from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.models.stn import StnAffine
from experiments.networks.network import Network, Site, count_parameters


@MODELS.register("cnn_matched")
@dataclass(frozen=True)
class MatchedCNN(UsualModel):
    """The plain network, made as large as the one with a transformer.

    Its width is that whose parameter count comes closest to `stn_affine` on the same backbone.
    """

    role = "matched"

    def build(self, site: Site) -> Network:
        return Network(site, site.backbone(matching_width(site)))


def matching_width(site: Site) -> float:
    """The width of 1 or more, in steps of 1/256, whose parameter count comes closest to the transformer's."""
    with torch.device("meta"):  # counts need shapes, not numbers
        target = count_parameters(StnAffine().build(site))

        def excess(step: int) -> int:
            return count_parameters(site.backbone(1 + step / 256)) - target

        low, high = 0, 256
        while excess(high) < 0:  # a protocol's narrow backbone is small beside the localisation network
            low, high = high, 2 * high
        while high - low > 1:  # the count grows with the width
            middle = (low + high) // 2
            low, high = (middle, high) if excess(middle) <= 0 else (low, middle)
    return 1 + min((low, high), key=lambda step: abs(excess(step))) / 256
