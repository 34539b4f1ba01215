"""TrivialAugment: one operation, of any strength."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baselines.policies import POLICIES
from baselines.policies.photometric import OPERATIONS, OperationPolicy, Strength

LEVELS = 31


@POLICIES.register("trivial_augment")
@dataclass(frozen=True)
class TrivialAugment(OperationPolicy):
    """Each image goes through one operation, drawn from all but invert, at one of 31 levels.

    Source: Müller & Hutter 2021, TrivialAugment, section 3 and the "wide" ranges of table 7: shifts of up to
    32 px, whatever the image's size. Shears about the top left corner, as in torchvision's TrivialAugmentWide.
    """

    num_draws: ClassVar[int] = 3

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        operation_B1 = (u_BK[:, :1] * (len(OPERATIONS) - 1)).long()
        level_B1 = (u_BK[:, 1:2] * LEVELS).floor() / (LEVELS - 1)
        magnitude_B1 = Strength(0.99, 32, 135, 0.99, 2).magnitudes(operation_B1, level_B1, u_BK[:, 2:3] < 0.5)
        return {"operation": operation_B1, "magnitude": magnitude_B1}
