"""A rival: convolutions whose kernels bend to the image."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from experiments.networks.models import MODELS
from experiments.networks.network import Network, Site
from ledger.roles import Role


@MODELS.register("deformable")
@dataclass(frozen=True)
class Deformable:
    """A network whose filters bend to what they see.

    The backbone with deformable convolutions in its last stages; it starts as the plain backbone.
    num_stages: how many of the last ones.
    offset_lr_factor: learning rate of the layers that predict offsets, as a factor of the base rate. The paper's beta,
        which is 1 there for networks that are already trained; from scratch, at this suite's rates, 1 can diverge.
    Source: Dai et al. 2017, Deformable Convolutional Networks, arXiv:1703.06211.
    """

    role: ClassVar[Role] = "other"
    num_draws: ClassVar[int] = 0
    num_stages: int = 2
    offset_lr_factor: float = field(default=0.1, metadata={"plain": 0.0})

    def __post_init__(self) -> None:
        if not 1 <= self.num_stages <= 16:
            raise ValueError(f"num_stages: {self.num_stages} is not between 1 and 16")
        if not 0 <= self.offset_lr_factor < math.inf:
            raise ValueError(f"offset_lr_factor: {self.offset_lr_factor} is not a number of 0 or more")

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
