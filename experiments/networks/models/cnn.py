"""The baseline: the backbone alone."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Network, Site
from ledger.roles import Role


@MODELS.register("cnn")
@dataclass(frozen=True)
class PlainCNN(UsualModel):
    """The plain network: it sees each image as it is."""

    role: ClassVar[Role] = "plain"

    def build(self, site: Site) -> Network:
        return Network(site, site.backbone())
