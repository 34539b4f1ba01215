"""No augmentation."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baselines.policies import POLICIES, Warp


@POLICIES.register("none")
@dataclass(frozen=True)
class NoPolicy:
    """Images as they are."""

    num_draws: ClassVar[int] = 0

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        return x_BCHW
