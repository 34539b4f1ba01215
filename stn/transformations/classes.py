"""Turns by classes: how likely each of many angles is, in place of one regressed direction.

Legend: B images, K angles, P parameters, N points of a circle, 2 x and y.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from stn.maps import AffineMap, circle


class TurnByClasses(AffineMap):
    """Maps that turn by the circular mean of the probabilities of K angles, scale and shift.

    The mean, and not the likeliest angle with a straight-through gradient: gradients are those of what is computed,
    angles lie between the grid's as well, and equal probabilities need no tie-break. What it costs: between two
    opposite angles that are equally likely it is neither of them.
    logits_BK: of equal steps round the full circle, counted from 0, positive from x to y.
    """

    def __init__(self, logits_BK: Tensor, scale_B: Tensor, shift_B2: Tensor) -> None:
        self.logits_BK, self.scale_B, self.shift_B2 = logits_BK, scale_B, shift_B2
        # By single products and sums, as in stn/maps.py: a matrix product would be of low precision under autocast.
        mean_B2 = (logits_BK.softmax(1)[:, :, None] * directions(logits_BK.shape[1], logits_BK.device)).sum(1)
        super().__init__(self.turned_to(F.normalize(mean_B2, dim=1, eps=1e-6)).theta_B23)

    def turned_to(self, direction_B2: Tensor) -> AffineMap:
        """The same maps with these turns, (cos, sin)."""
        cos_B, sin_B = (self.scale_B[:, None] * direction_B2).unbind(1)
        x_B, y_B = self.shift_B2.unbind(1)
        return AffineMap(torch.stack([cos_B, -sin_B, x_B, sin_B, cos_B, y_B], dim=1).view(-1, 2, 3))


def directions(num: int, device: torch.device) -> Tensor:
    """(cos, sin) of equal steps round the full circle, from 0, (K, 2) float32."""
    step_K = torch.arange(num, device="cpu", dtype=torch.float64)
    angle_K = torch.where(step_K > num / 2, step_K - num, step_K) * (2 * math.pi / num)  # each with its exact opposite
    return torch.stack([angle_K.cos(), angle_K.sin()], dim=1).to(device, torch.float32)


class RotationByClasses:
    """`bins` parameters: logits of the angles, less those that zeros stand for, whose mean is no turn.

    These are the cosines of the angles (a von Mises distribution of concentration 1). Were all angles equally likely,
    there would be no mean, and no gradient.
    """

    composes, turns = True, True

    def __init__(self, bins: int) -> None:
        self.bins = self.num_params = bins

    def __call__(self, params_BP: Tensor) -> TurnByClasses:
        params_BP = params_BP.float()
        logits_BK = params_BP[:, : self.bins] + directions(self.bins, params_BP.device)[:, 0]
        return TurnByClasses(logits_BK, *self.rest(params_BP))

    def rest(self, params_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Scale (B) and shift (B, 2)."""
        return torch.ones_like(params_BP[:, 0]), torch.zeros_like(params_BP[:, :2])


class SimilarityByClasses(RotationByClasses):
    """Three parameters more: the logarithm of the scale, and the shift (x, y) in normalised coordinates."""

    def __init__(self, bins: int) -> None:
        super().__init__(bins)
        self.num_params = bins + 3

    def rest(self, params_BP: Tensor) -> tuple[Tensor, Tensor]:
        return params_BP[:, self.bins].exp(), params_BP[:, self.bins + 1 :]


BY_CLASSES: Mapping[str, Callable[[int], RotationByClasses]] = {
    "rotation": RotationByClasses,
    "similarity": SimilarityByClasses,
}
"""For families of maps that turn: the same, from a number of angles."""


def direction_of(seen_BN2: Tensor) -> Tensor:
    """(cos, sin) of the turns closest to maps that send the points of `circle` there, (B, 2)."""
    points_N2 = circle(seen_BN2.device)
    cos_B = (points_N2 * seen_BN2).sum((1, 2))
    sin_B = (points_N2[:, 0] * seen_BN2[:, :, 1] - points_N2[:, 1] * seen_BN2[:, :, 0]).sum(1)
    return F.normalize(torch.stack([cos_B, sin_B], dim=1), dim=1)


def cross_entropy(logits_BK: Tensor, direction_B2: Tensor) -> Tensor:
    """Mean cross-entropy in nats between the angles' probabilities and true turns, (cos, sin), a scalar.

    A turn between two angles of the grid belongs to both, to each by how near it is.
    """
    num = logits_BK.shape[1]
    place_B = torch.atan2(direction_B2[:, 1], direction_B2[:, 0]) * (num / (2 * math.pi))
    before_B = place_B.floor()
    after_B1 = (place_B - before_B)[:, None]
    log_BK = logits_BK.log_softmax(1)
    log_before_B1, log_after_B1 = (log_BK.gather(1, ((before_B + k) % num).long()[:, None]) for k in (0, 1))
    return -((1 - after_B1) * log_before_B1 + after_B1 * log_after_B1).mean()
