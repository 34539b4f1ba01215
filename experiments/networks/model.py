"""What every model offers, and fields with a range for its hyper-parameters."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from experiments.networks.network import Network, Site
from ledger.roles import Role

Number = TypeVar("Number", int, float)


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


class UsualModel(Model):
    """A model that draws nothing and trains all parts at the base rate.

    Raises ValueError for the first field that is not in its range; NaN never is.
    """

    role: ClassVar[Role]
    num_draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # models are dataclasses
            if "low" in field.metadata:
                value, low, high = getattr(self, field.name), field.metadata["low"], field.metadata["high"]
                bounds = f"between {low} and {high}" if high < math.inf else f"a number of {low} or more"
                if not (low <= value <= high and value < math.inf):
                    raise ValueError(f"{field.name}: {value} is not {bounds}")

    def lr_factors(self) -> Mapping[str, float]:
        return {}


def within(low: float, high: float, default: Number, **metadata: Any) -> Number:
    """A model's field that is from low to high, both included."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, **metadata})


def at_least(low: float, default: Number, **metadata: Any) -> Number:
    """A model's field that is low or more, and finite."""
    return within(low, math.inf, default, **metadata)
