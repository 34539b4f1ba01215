"""A floor: the transformer's sampler under the identity, with nothing to learn."""

from dataclasses import dataclass

from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, GivenMapsNetwork, Network, Site
from stn.affine import identity
from stn.maps import AffineMap, Map


@MODELS.register("stn_frozen")
@dataclass(frozen=True)
class StnFrozen(UsualModel):
    """A control: a transformer that never moves anything. It shows that sampling itself changes nothing."""

    role = "floor"

    def build(self, site: Site) -> Network:
        return FrozenNetwork(site, site.backbone())


class FrozenNetwork(GivenMapsNetwork):
    """A backbone behind the identity."""

    def maps(self, batch: Batch) -> list[Map]:
        return [AffineMap(identity(batch.raw_BCHW.shape[0], device=batch.raw_BCHW.device))]
