"""Supervision with the true pose."""

from torch import Tensor

from stn.maps import Map, circle
from stn.transformations.classes import TurnByClasses, cross_entropy, direction_of


def supervision(maps: Map, true_BN2: Tensor) -> Tensor:
    """How far the maps are from the true ones, a scalar. A control: it needs to know the pose of every image.

    true_BN2: where the true maps send the points of `circle`.
    Of maps that turn by classes: the cross-entropy of the true turn, and how far scale and shift are from theirs.
    """
    if isinstance(maps, TurnByClasses):
        direction_B2 = direction_of(true_BN2)
        return cross_entropy(maps.logits_BK, direction_B2) + supervision(maps.turned_to(direction_B2), true_BN2)
    return (maps.apply(circle(true_BN2.device)) - true_BN2).square().sum(-1).mean()
