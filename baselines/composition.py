"""Several policies, one after the other.

Legend: B images, C channels, H rows, W columns, K uniform numbers for each image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from baselines.policies import Policy, Warp

T = TypeVar("T")


@dataclass(frozen=True)
class Composition:
    """What a policy makes of an image is what the next one is given.

    parts: the policies by name, in the order in which they are applied. Each has numbers of its own.
    """

    parts: Mapping[str, Policy]

    @property
    def num_draws(self) -> int:
        return sum(policy.num_draws for policy in self.parts.values())

    @property
    def poses_anew(self) -> bool:
        """Whether one of them asks for images whose pose is drawn anew."""
        return any(getattr(policy, "poses_anew", False) for policy in self.parts.values())

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        own = u_BK.split([policy.num_draws for policy in self.parts.values()], dim=1)
        drawn = {name: policy.draw(u, image_px) for (name, policy), u in zip(self.parts.items(), own, strict=True)}
        return {f"{name}.{key}": value for name, params in drawn.items() for key, value in params.items()}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        for name, policy in self.parts.items():
            x_BCHW = policy.apply(x_BCHW, own_values(name, params), warp)
        return x_BCHW


def own_values(name: str, values: Mapping[str, T]) -> dict[str, T]:
    """The values of one part, by its own names for them, among values by dotted names."""
    return {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}
