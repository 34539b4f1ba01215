"""No augmentation."""

from dataclasses import dataclass
from typing import ClassVar

from baselines.policies import POLICIES, Policy


@POLICIES.register("none")
@dataclass(frozen=True)
class NoPolicy(Policy):
    """Images as they are."""

    num_draws: ClassVar[int] = 0
