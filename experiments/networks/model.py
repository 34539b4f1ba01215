"""What every model offers."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from baselines.ranges import Ranged
from experiments.networks.network import Network, Site
from ledger.roles import Role


class Model(Protocol):
    """What every model offers.

    role: what it is to a study: tables, tests and advice go by that.
    num_draws: uniform numbers in [0, 1) that its network needs for each image of a batch.
    """

    @property
    def role(self) -> Role: ...

    @property
    def num_draws(self) -> int: ...

    def build(self, site: Site) -> Network:
        """Raises ValueError if the images are too small for a part, or parts cannot go together."""
        ...

    def lr_factors(self) -> Mapping[str, float]:
        """Learning rate of each child module of the network as a factor of the base rate; those not named have 1."""
        ...


class UsualModel(Ranged, Model):
    """A model that draws nothing and trains all parts at the base rate, unless it says so; its ranges are checked."""

    role: ClassVar[Role]
    num_draws: ClassVar[int] = 0

    def lr_factors(self) -> Mapping[str, float]:
        return {}


class LocalisingModel(UsualModel):
    """A model with a localisation network. loc_lr_factor: its learning rate as a factor of the base rate."""

    loc_lr_factor: float

    def lr_factors(self) -> Mapping[str, float]:
        return {"localisation": self.loc_lr_factor}
