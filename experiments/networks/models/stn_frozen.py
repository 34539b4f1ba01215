"""A floor: the transformer's sampler under the identity, with nothing to learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from ledger.roles import Role
from stn.affine import identity
from stn.maps import AffineMap, Map
from stn.sampler import Sampler


@MODELS.register("stn_frozen")
@dataclass(frozen=True)
class StnFrozen:
    """A control: a transformer that never moves anything. It shows that sampling itself changes nothing."""

    role: ClassVar[Role] = "floor"
    num_draws: ClassVar[int] = 0

    def build(self, site: Site) -> Network:
        return GivenMapsNetwork(site, site.backbone())

    def lr_factors(self) -> Mapping[str, float]:
        return {}


class GivenMapsNetwork(Network):
    """A backbone behind maps that nobody learns: here the identity."""

    def maps(self, batch: Batch) -> list[Map]:
        return [AffineMap(identity(batch.raw_BCHW.shape[0], device=batch.raw_BCHW.device))]

    def look(self, batch: Batch) -> Tensor:
        return Sampler()(batch.raw_BCHW, self.maps(batch)[0])

    def forward(self, batch: Batch) -> Tensor:
        return self.backbone(self.normalise(self.look(batch)))
