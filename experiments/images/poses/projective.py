"""P: images seen from the side."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies.perspective import CORNERS, homography_to_corners
from baselines.ranges import Ranged, within
from experiments.images.draws import normal
from experiments.images.poses.pose import CANVAS_PX, POSES, Corners
from experiments.images.poses.pose_maps import PoseMaps

MAX_MOVE = 0.9
"""Share of the scaled image's half side: below 1 each corner stays in its own quarter, so the centre in the image."""
MIN_TURN = 0.2
"""Least area of the triangle of three corners in a row, as a share of the scaled image's: at 0 they are on one line,
below it the image is folded over."""


def _least_turn(corner_N42: Tensor) -> Tensor:
    """The least of the signed areas at the four corners, (N,): 4 for the corners of an undisturbed image."""
    to_next_N42 = corner_N42.roll(-1, dims=1) - corner_N42
    from_last_N42 = corner_N42 - corner_N42.roll(1, dims=1)
    cross_N4 = from_last_N42[..., 0] * to_next_N42[..., 1] - from_last_N42[..., 1] * to_next_N42[..., 0]
    return cross_N4.amin(1)


@POSES.register("P")
@dataclass(frozen=True)
class Projective(Ranged):
    """Images in perspective.

    Scale U(min_scale, 1), then each corner moved by N(0, corner_sd) of the image's side along each axis.
    min_scale: above 0 and up to 1. corner_sd: up to 0.5. corners, canvas_px, fresh: as of every pose.
    No image is folded over. A move is cut at 0.9 of the scaled image's half side; where the four corners then come
    close to a line or cross it, all four moves of the image are shrunk together, by steps of a tenth, until each
    corner's triangle has a fifth of its area. At the defaults this cuts 3 % of the moves and shrinks 5 % of the images.
    Source: Jaderberg et al. 2015, section 4.1 and appendix A.3. The 5 pixels there are taken to be those of a 28-pixel
    digit, whatever the canvas, and hold here in proportion for other sizes.
    """

    num_draws: ClassVar[int] = 9
    min_scale: float = within(0, 1, 0.75, ends="(]")
    corner_sd: float = within(0, 0.5, 5 / 28)
    corners: Corners = "disc"
    canvas_px: int = within(*CANVAS_PX, 0, or_zero=True)
    fresh: bool = False

    def posed_corners(self, u_NK: Tensor) -> Tensor:
        """Where the image's corners go, (N, 4, 2), float64; in the order of CORNERS: clockwise from the top left."""
        scale_N11 = (self.min_scale + (1 - self.min_scale) * u_NK[:, :1, None]).double()
        corner_N42 = scale_N11 * torch.tensor(CORNERS, dtype=torch.float64, device=u_NK.device)
        # The image is 2 wide.
        move_N42 = 2 * self.corner_sd * normal(u_NK[:, 1 : self.num_draws]).view(-1, 4, 2)
        bound_N11 = MAX_MOVE * scale_N11
        move_N42 = torch.maximum(torch.minimum(move_N42, bound_N11), -bound_N11)
        least_N = MIN_TURN * 4 * scale_N11[:, 0, 0] ** 2
        # A move of 0.3 half sides leaves 0.4 of the area at worst, and 0.9 times 0.9^11 is less.
        for _ in range(11):
            folded_N = _least_turn(corner_N42 + move_N42) < least_N
            move_N42 = torch.where(folded_N[:, None, None], 0.9 * move_N42, move_N42)
        return corner_N42 + move_N42

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        # In float64: a corner near the line between its neighbours costs digits.
        return PoseMaps(homography_to_corners(self.posed_corners(u_NK)).float())
