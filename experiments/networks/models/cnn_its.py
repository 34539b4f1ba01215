"""A rival that learns nothing about turns: when it is tested, the classifier is asked which turned copy it knows best.

Legend: K copies of an image, B images, C channels, H rows, W columns, X logits.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from baselines.ranges import within
from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from experiments.networks.turning import TurningNetwork, even_turns_deg, turned

SMOOTHING_SD, SMOOTHING_RADIUS = 2.0, 3
"""In steps of the orbit, as in the authors' program."""


@MODELS.register("cnn_its")
@dataclass(frozen=True)
class CnnIts(UsualModel):
    """The plain network; when tested, it turns each image as it is surest of what it sees.

    It answers what it says of that copy. For training images that are mostly upright.
    num_turns: copies turned by equal steps. max_deg: 180: they go round the full circle, from the image itself. Less:
        from -max_deg to max_deg, both included; an odd number has the image itself among them.
    confidence: in what copy it is surest. `energy`: of the lowest energy, -logsumexp(logits). `curvature`: where the
        energy, smoothed along the turns, is most sharply bent upwards: a valley, and not an end of the range.
    Source: Schmidt and Stober 2024, Inverse Transformation Search, arXiv:2405.03730, and their program; of their tree
    the one level that turns, with one hypothesis, and without dropout at test time.
    """

    role = "other"
    num_turns: int = within(3, 72, 16)
    max_deg: float = within(0, 180, 180.0, ends="(]")
    confidence: Literal["energy", "curvature"] = "energy"

    def build(self, site: Site) -> Network:
        return SearchingNetwork(site, self)


class SearchingNetwork(TurningNetwork):
    """A backbone, and in evaluation a search for the copy to ask it about."""

    def __init__(self, site: Site, model: CnnIts) -> None:
        super().__init__(site, site.backbone())
        self.model = model
        self.angles_deg = even_turns_deg(model.num_turns, model.max_deg)

    def answers(self, raw_BCHW: Tensor) -> Tensor:
        """Of each copy, (K, B, X); one copy after another, in the memory of one."""
        copies = (turned(raw_BCHW, angle_deg) for angle_deg in self.angles_deg)
        return torch.stack([self.backbone(self.normalise(copy_BCHW)).float() for copy_BCHW in copies])

    def best(self, logits_KBX: Tensor) -> Tensor:
        """The copy that it is surest of, (B,)."""
        sure_BK = logits_KBX.logsumexp(2).T
        if self.model.confidence == "curvature":
            sure_BK = peakedness(sure_BK, is_circle=self.model.max_deg == 180)
        return sure_BK.argmax(1)

    def turn_deg(self, raw_BCHW: Tensor) -> Tensor:
        return torch.tensor(self.angles_deg, device=raw_BCHW.device)[self.best(self.answers(raw_BCHW))]

    def forward(self, batch: Batch) -> Tensor:
        if self.training:
            return self.backbone(self.normalise(batch.raw_BCHW))
        logits_KBX = self.answers(batch.raw_BCHW)
        index_1BX = self.best(logits_KBX)[None, :, None].expand(1, -1, logits_KBX.shape[2])
        return logits_KBX.gather(0, index_1BX)[0]


def peakedness(score_BK: Tensor, *, is_circle: bool) -> Tensor:
    """Less the second difference of the scores along the orbit, smoothed by a Gaussian, (B, K).

    is_circle: whether the last copy is beside the first; else the ends go on as they are.
    """
    num, device = score_BK.shape[1], score_BK.device
    reach = SMOOTHING_RADIUS + 1
    place = torch.arange(-reach, num + reach, device=device)
    padded_BK = score_BK[:, place % num if is_circle else place.clamp(0, num - 1)]
    step = torch.arange(-SMOOTHING_RADIUS, SMOOTHING_RADIUS + 1, device=device)
    weight = (-0.5 * (step / SMOOTHING_SD).square()).softmax(0)
    smooth_BK = (padded_BK.unfold(1, len(weight), 1) * weight).sum(2)
    return 2 * smooth_BK[:, 1:-1] - smooth_BK[:, :-2] - smooth_BK[:, 2:]
