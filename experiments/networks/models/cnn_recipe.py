"""A control for the recipe: the backbone alone, with parts of how it is made and trained taken away."""

from dataclasses import dataclass, replace

from torch import nn

from baselines.whitening import Whitening
from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Network, Site
from ledger.config import Protocol


@MODELS.register("cnn_recipe")
@dataclass(frozen=True)
class CnnRecipe(UsualModel):
    """The plain network, with parts of how it is made and trained taken away. With all of them in place it is `cnn`.

    whitening: whether its first layer whitens patches and stays as it is; else it starts at random and is trained.
    identity_start: whether its other convolutions start at the identity, as far as they can; else at random.
    muon: whether its filters have Muon; else SGD has them too.
    averaging: whether its weights are averaged as training ends.
    """

    role = "other"
    whitening: bool = True
    identity_start: bool = True
    muon: bool = True
    averaging: bool = True

    def build(self, site: Site) -> Network:
        backbone = site.backbone()
        whitening = [layer for layer in backbone.modules() if isinstance(layer, Whitening)]
        if not whitening:
            raise ValueError("cnn_recipe takes parts of the backbone cnn away, and this is another one")
        for layer in whitening if not self.whitening else ():
            layer.train_filters()
        for convolution in backbone.modules() if not self.identity_start else ():
            if isinstance(convolution, nn.Conv2d) and convolution not in whitening:
                convolution.reset_parameters()
        return Network(site, backbone)

    def train_under(self, protocol: Protocol) -> Protocol:
        """The protocol without what is taken away of it."""
        return replace(
            protocol,
            optimiser="sgd" if protocol.optimiser == "muon" and not self.muon else protocol.optimiser,
            averaging=protocol.averaging and self.averaging,
        )
