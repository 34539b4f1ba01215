"""A rival: convolutions whose kernels bend to the image."""

from collections.abc import Mapping
from dataclasses import dataclass

from baselines.ranges import at_least, within
from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Network, Site


@MODELS.register("deformable")
@dataclass(frozen=True)
class Deformable(UsualModel):
    """A network whose filters bend to what they see.

    The backbone with deformable convolutions in its last stages; it starts as the plain backbone.
    num_stages: how many of the last ones.
    offset_lr_factor: learning rate of the layers that predict offsets, as a factor of the base rate. The paper's beta,
        which is 1 there for networks that are already trained; from scratch, at this suite's rates, 1 can diverge.
    Source: Dai et al. 2017, Deformable Convolutional Networks, arXiv:1703.06211.
    """

    role = "other"
    num_stages: int = within(1, 16, 2)
    offset_lr_factor: float = at_least(0, 0.1, plain=0.0)

    def build(self, site: Site) -> Network:
        return DeformableNetwork(site, self.num_stages)

    def lr_factors(self) -> Mapping[str, float]:
        return {"offsets": self.offset_lr_factor}


class DeformableNetwork(Network):
    """A deformed backbone, and beside it the layers that predict its offsets."""

    def __init__(self, site: Site, num_stages: int) -> None:
        from baselines.deformable import deform  # it imports torchvision, which nothing else in a training needs

        backbone = site.backbone()
        offsets = deform(backbone, num_stages)
        super().__init__(site, backbone)
        self.offsets = offsets
