"""The ceiling: images unwarped by their true pose, which no other variant is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from ledger.roles import Role
from stn.maps import Map
from stn.sampler import Sampler


@MODELS.register("oracle_unwarp")
@dataclass(frozen=True)
class OracleUnwarp:
    """The plain network on images turned back by their true pose: what a transformer could reach.

    What turning and scaling have taken from the pixels stays lost, so the ceiling is below the score on upright images.
    An augmentation is not undone.
    """

    role: ClassVar[Role] = "ceiling"
    num_draws: ClassVar[int] = 0

    def build(self, site: Site) -> Network:
        return OracleNetwork(site, site.backbone())

    def lr_factors(self) -> Mapping[str, float]:
        return {}


class OracleNetwork(Network):
    """Unwarps by the true pose, then classifies."""

    def maps(self, batch: Batch) -> list[Map]:
        return [batch.poses.from_upright()]

    def look(self, batch: Batch) -> Tensor:
        return Sampler()(batch.raw_BCHW, batch.poses.from_upright())

    def forward(self, batch: Batch) -> Tensor:
        return self.backbone(self.normalise(self.look(batch)))
