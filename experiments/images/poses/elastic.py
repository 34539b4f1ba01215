"""E: images bent smoothly."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.ranges import Ranged, within
from experiments.images.draws import normal
from experiments.images.poses.pose import POSES, Corners
from experiments.images.poses.pose_maps import PoseMaps
from stn.spline import NUM_CONTROL, SplineMap

MAX_SLOPE = 0.75
"""Below 1 nothing is folded over, and the iteration of SplineMap.apply_inverse converges."""


def _slope(step_NK2: Tensor) -> Tensor:
    """The steepest change of the spline's moves from place to place, (N,): the largest Frobenius norm of their
    Jacobian, by differences on a grid that reaches beyond the frame, as do the points that bends are undone at."""
    num, reach = 13, 1.25
    side = torch.linspace(-reach, reach, num, device=step_NK2.device)
    grid_M2 = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).view(-1, 2)
    move_Nyx2 = (SplineMap(step_NK2).apply(grid_M2) - grid_M2).view(-1, num, num, 2)
    across = move_Nyx2[:, :-1, 1:] - move_Nyx2[:, :-1, :-1]
    down = move_Nyx2[:, 1:, :-1] - move_Nyx2[:, :-1, :-1]
    square_Nyx = (across.square() + down.square()).sum(-1) * ((num - 1) / (2 * reach)) ** 2
    return square_Nyx.flatten(1).amax(1).sqrt()


@POSES.register("E")
@dataclass(frozen=True)
class Elastic(Ranged):
    """Elastically bent images.

    Thin-plate splines that move each of 4x4 control points by N(0, sigma) of the image's side along each axis.
    sigma: above 0 and up to 0.1. corners, fresh: as of every pose.
    No image is folded over: where a spline would move neighbouring places apart, or together, by more than 3/4 of
    their distance, all its moves are shrunk in proportion. At the default this shrinks the moves of 46 % of the images,
    by 12 % on average; below 0.03 none, at 0.1 nearly all. Bends are undone to within 0.05 px of 32.
    Source: Jaderberg et al. 2015, section 4.1 and appendix A.3: 16 control points, 1.5 pixels, taken to be those of a
    28-pixel digit.
    """

    num_draws: ClassVar[int] = 2 * NUM_CONTROL
    canvas_px: ClassVar[int] = 0  # control points lie on the image
    sigma: float = within(0, 0.1, 1.5 / 28, ends="(]")
    corners: Corners = "disc"
    fresh: bool = False

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        # The image is 2 wide.
        step_NK2 = (2 * self.sigma * normal(u_NK[:, : self.num_draws])).float().view(-1, NUM_CONTROL, 2)
        # Moves are linear in the control points' steps.
        shrink_N = (MAX_SLOPE / _slope(step_NK2)).clamp_max(1)
        identity_N33 = torch.eye(3, device=u_NK.device).expand(len(u_NK), 3, 3)
        return PoseMaps(identity_N33, SplineMap(step_NK2 * shrink_N[:, None, None]))
