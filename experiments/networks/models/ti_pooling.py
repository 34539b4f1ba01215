"""A rival: the backbone looks at turned copies of the image, and the strongest features count.

Legend: T turned copies, B images, C channels, H rows, W columns.
"""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from baselines.ranges import within
from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from experiments.networks.turning import turned


@MODELS.register("ti_pooling")
@dataclass(frozen=True)
class TiPooling(UsualModel):
    """A network that sees several turned copies and keeps the strongest answer.

    The backbone's maps of copies turned by a full circle in equal steps, their maximum at each place, the head.
    num_turns: copies, and as many times the arithmetic. With a multiple of four, quarter turns of the image change
        nothing: they only reorder the copies.
    Source: Laptev et al. 2016, TI-POOLING, arXiv:1604.06318, section 3.
    """

    role = "other"
    num_turns: int = within(1, 72, 8)

    def build(self, site: Site) -> Network:
        return TiPoolingNetwork(site, self.num_turns)


class TiPoolingNetwork(Network):
    """A backbone whose last map is the maximum over turned copies."""

    def __init__(self, site: Site, num_turns: int) -> None:
        super().__init__(site, site.backbone())
        self.angles_deg = tuple(360 * turn / num_turns for turn in range(num_turns))

    def forward(self, batch: Batch) -> Tensor:
        copies = (self.normalise(turned(batch.raw_BCHW, angle_deg)) for angle_deg in self.angles_deg)
        if self.training:
            # As one batch: normalised over all copies alike, so that the maximum compares like with like.
            map_TBCHW = self.backbone.features(torch.cat(list(copies))).unflatten(0, (len(self.angles_deg), -1))
            return self.backbone.head(map_TBCHW.amax(0))
        # One after another: the memory of one copy.
        return self.backbone.head(reduce(torch.maximum, map(self.backbone.features, copies)))
