"""A floor: a transformer whose maps are drawn at random, in training and in evaluation."""

from dataclasses import dataclass

from experiments.networks.models import MODELS
from experiments.networks.network import Batch, GivenMapsNetwork, Network, Site
from experiments.networks.random_similarity import DRAWS, SimilarityRanges
from stn.maps import Map


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
        return RandomNetwork(site, self)


class RandomNetwork(GivenMapsNetwork):
    """A backbone behind maps made from the batch's uniform numbers."""

    def __init__(self, site: Site, model: StnRandom) -> None:
        super().__init__(site, site.backbone())
        self.model = model

    def maps(self, batch: Batch) -> list[Map]:
        return [self.model.maps(batch.u_BK)]
