"""The ceiling: images unwarped by their true pose, which no other variant is told."""

from dataclasses import dataclass

from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import GivenMapsNetwork, Network, Site


@MODELS.register("oracle_unwarp")
@dataclass(frozen=True)
class OracleUnwarp(UsualModel):
    """The plain network on images turned back by their true pose: what a transformer could reach.

    What turning and scaling have taken from the pixels stays lost, so the ceiling is below the score on upright images.
    An augmentation is not undone.
    """

    role = "ceiling"

    def build(self, site: Site) -> Network:
        return GivenMapsNetwork(site, lambda batch: batch.poses.from_upright())
