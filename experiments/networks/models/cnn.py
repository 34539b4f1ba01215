"""The baseline: the backbone alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.network import Network, Site
from ledger.roles import Role


@MODELS.register("cnn")
@dataclass(frozen=True)
class PlainCNN:
    """The plain network: it sees each image as it is."""

    role: ClassVar[Role] = "plain"
    num_draws: ClassVar[int] = 0

    def build(self, site: Site) -> Network:
        return Network(site, site.backbone())

    def lr_factors(self) -> Mapping[str, float]:
        return {}
