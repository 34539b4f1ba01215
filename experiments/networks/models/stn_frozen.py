"""A floor: the transformer's sampler under the identity, with nothing to learn."""

from dataclasses import dataclass

from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, GivenMapsNetwork, Network, Site
from stn.affine import identity
from stn.maps import AffineMap


@MODELS.register("stn_frozen")
@dataclass(frozen=True)
class StnFrozen(UsualModel):
    """A control: a transformer that never moves anything. It shows that sampling itself changes nothing."""

    role = "floor"

    def build(self, site: Site) -> Network:
        return GivenMapsNetwork(site, self.unmoved)

    def unmoved(self, batch: Batch) -> AffineMap:
        return AffineMap(identity(batch.raw_BCHW.shape[0], device=batch.raw_BCHW.device))
