"""The oracle augmentation: draws from the very distribution of poses that the task's images are under."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from baselines.policies import POLICIES, Warp

DrawPoints = Callable[[Tensor, int], Tensor]
"""From uniform numbers (B, K) and the image's side to the points (B, H, W, 2) that the pose samples."""


@POLICIES.register("posed")
@dataclass(frozen=True)
class Posed:
    """Each image under a further pose of the task's own distribution; images of an upright task stay as they are.

    The task's pose itself is not undone, so turns of up to 90 degrees add up to ones of up to 180.
    draw_points: of the task's pose.
    """

    num_draws: ClassVar[int] = 32
    draw_points: DrawPoints | None = field(default=None, init=False)

    def under(self, draw_points: DrawPoints | None) -> "Posed":
        """The policy for images under this pose; None for upright ones."""
        policy = replace(self)
        object.__setattr__(policy, "draw_points", draw_points)
        return policy

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {} if self.draw_points is None else {"points": self.draw_points(u_BK, image_px)}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        return warp(x_BCHW, params["points"]) if params else x_BCHW
