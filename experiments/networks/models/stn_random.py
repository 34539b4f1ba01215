"""A floor: a transformer whose maps are drawn at random, in training and in evaluation."""

from dataclasses import dataclass

from experiments.networks.models import MODELS
from experiments.networks.network import GivenMapsNetwork, Network, Site
from experiments.networks.random_similarity import DRAWS, SimilarityRanges


@MODELS.register("stn_random")
@dataclass(frozen=True)
class StnRandom(SimilarityRanges):
    """A control: a transformer that moves images at random.

    The backbone is behind similarities that know nothing of the image: what moving images about does by itself.
    max_deg: turns U(-max, max). max_scale: scale log-uniform between its inverse and itself, 1 or more.
    max_shift: fraction of the side, each axis U(-max, max).
    """

    role = "floor"
    num_draws = DRAWS

    def build(self, site: Site) -> Network:
        return GivenMapsNetwork(site, lambda batch: self.maps(batch.u_BK))
