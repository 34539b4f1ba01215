"""Models: what trains, put together from the parts in stn/ and baselines/. One file each.

A model is a frozen dataclass whose fields are its hyper-parameters; `build` makes the network. The first sentence of
its docstring is what reports say of it.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from baselines.registry import Registry
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


MODELS: Registry[Callable[..., Model]] = Registry("model", __name__)
