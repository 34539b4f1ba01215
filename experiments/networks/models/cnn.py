"""The baseline: the backbone alone."""

from dataclasses import dataclass

from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Network, Site


@MODELS.register("cnn")
@dataclass(frozen=True)
class PlainCNN(UsualModel):
    """The plain network: it sees each image as it is."""

    role = "plain"

    def build(self, site: Site) -> Network:
        return Network(site, site.backbone())
