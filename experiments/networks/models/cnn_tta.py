"""A rival: the plain backbone, asked several times when it is tested.

Legend: B images, X logits.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.ranges import within
from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from experiments.networks.turning import even_turns_deg, turned


@MODELS.register("cnn_tta")
@dataclass(frozen=True)
class CnnTta(UsualModel):
    """The plain network; when tested, it sees several copies of each image and takes the mean.

    The mean is of class probabilities.
    num_turns: copies turned by equal steps from -max_deg to max_deg, both included; an odd number has the image itself
        among them. With max_deg=180 they go round the whole circle, each once, from the image itself.
    mirrored: the copies' mirror images as well, left for right.
    Source: test-time augmentation as in Krizhevsky et al. 2012, section 4.1, with turns in place of crops.
    """

    role = "other"
    num_turns: int = within(1, 72, 5)
    max_deg: float = within(0, 180, 15.0)
    mirrored: bool = False

    @property
    def angles_deg(self) -> tuple[float, ...]:
        """By how much the copies are turned."""
        return even_turns_deg(self.num_turns, self.max_deg)

    def build(self, site: Site) -> Network:
        return TtaNetwork(site, self)


class TtaNetwork(Network):
    """A backbone, and in evaluation its mean opinion of several copies."""

    def __init__(self, site: Site, model: CnnTta) -> None:
        super().__init__(site, site.backbone())
        self.model = model

    def copies(self, raw_BCHW: Tensor) -> Iterator[Tensor]:
        for angle_deg in self.model.angles_deg:
            copy_BCHW = turned(raw_BCHW, angle_deg)
            yield copy_BCHW
            if self.model.mirrored:
                yield copy_BCHW.flip(3)

    def forward(self, batch: Batch) -> Tensor:
        """Logits in training, logarithms of probabilities in evaluation: both are valid for a cross-entropy."""
        if self.training:
            return super().forward(batch)
        logarithms = [
            self.backbone(self.normalise(copy)).float().log_softmax(1) for copy in self.copies(batch.raw_BCHW)
        ]
        return torch.stack(logarithms).logsumexp(0) - math.log(len(logarithms))
