"""RandAugment: operations drawn at random, all of one strength."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES
from baselines.policies.photometric import OPERATIONS, OperationPolicy, Strength
from baselines.ranges import within

MAX_OPS = 4


@POLICIES.register("rand_augment")
@dataclass(frozen=True)
class RandAugment(OperationPolicy):
    """Each image goes through num_ops operations, drawn with replacement from all but invert.

    num_ops: 1 to 4. magnitude: the level of every operation, from 0 to 30. Raises ValueError for others.
    Source: Cubuk et al. 2020, RandAugment, section 3; ranges as in torchvision's RandAugment with its 31 levels,
    shears about the top left corner.
    """

    num_draws: ClassVar[int] = 2 * MAX_OPS
    num_ops: int = 2
    magnitude: float = within(0, 30, 9.0)

    def __post_init__(self) -> None:
        if self.num_ops not in range(1, MAX_OPS + 1):
            raise ValueError(f"num_ops: {self.num_ops} is not a whole number from 1 to {MAX_OPS}")
        super().__post_init__()

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        strength = Strength(0.3, 150 / 331 * image_px, 30, 0.9, 4)
        u_BN2 = u_BK.view(-1, MAX_OPS, 2)[:, : int(self.num_ops)]
        operation_BN = (u_BN2[..., 0] * (len(OPERATIONS) - 1)).long()
        level_BN = torch.full_like(u_BN2[..., 0], self.magnitude / 30)
        magnitude_BN = strength.magnitudes(operation_BN, level_BN, u_BN2[..., 1] < 0.5)
        return {"operation": operation_BN, "magnitude": magnitude_BN}
