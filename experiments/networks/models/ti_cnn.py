"""A rival: feature maps that are turned, scaled and shifted at random while training.

Legend: B images, C channels, H rows, W columns, K uniform numbers an image.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from baselines.ranges import within
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from experiments.networks.random_similarity import DRAWS, SimilarityRanges
from stn.sampler import Sampler

MAX_STAGES = 8
"""How many a backbone may have; as many transforms are drawn, whether there are so many stages or not."""


@MODELS.register("ti_cnn")
@dataclass(frozen=True)
class TiCnn(SimilarityRanges):
    """A network whose inner maps are moved at random in training.

    The backbone, whose maps between stages are transformed; plain in evaluation.
    layers: after which stages: the `first`, the `inner` ones (all but the last), or `all`.
    max_deg: turns U(-max, max). max_scale: scale log-uniform between its inverse and itself, 1 or more.
    max_shift: fraction of the map's side, each axis U(-max, max). Each stage has draws of its own.
    per_sample: a transform for every image. The published method has one for the whole batch: the first image's.
    Source: Shen et al. 2019, Transform-Invariant Convolutional Neural Networks, arXiv:1912.01447.
    """

    role = "other"
    layers: Literal["first", "inner", "all"] = "all"
    max_deg: float = within(0, 180, 15.0)
    per_sample: bool = False

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        return DRAWS if self.layers == "first" else DRAWS * MAX_STAGES

    def build(self, site: Site) -> Network:
        return TiCnnNetwork(site, self)


class TiCnnNetwork(Network):
    """A backbone with a random transform after some of its stages."""

    def __init__(self, site: Site, model: TiCnn) -> None:
        super().__init__(site, site.backbone())
        self.model = model
        num_stages = len(self.backbone.stages)
        if num_stages > MAX_STAGES:
            raise ValueError(f"the backbone has {num_stages} stages, ti_cnn knows how to draw for {MAX_STAGES}")
        self.num_transforms = {"first": 1, "inner": num_stages - 1, "all": num_stages}[model.layers]
        if not self.num_transforms:
            raise ValueError("layers: the backbone has one stage and none before it; take layers=first")

    def forward(self, batch: Batch) -> Tensor:
        x_BCHW = self.normalise(batch.raw_BCHW)
        if not self.training:
            return self.backbone(x_BCHW)
        u_BK = batch.u_BK if self.model.per_sample else batch.u_BK[:1].expand(len(batch), -1)
        for index, u_BD in enumerate(u_BK.split(DRAWS, dim=1)[: self.num_transforms]):
            map_BCHW = self.backbone.features(x_BCHW, start=index, stop=index + 1)
            x_BCHW = Sampler()(map_BCHW, self.model.maps(u_BD))
        return self.backbone.head(self.backbone.features(x_BCHW, start=self.num_transforms))
