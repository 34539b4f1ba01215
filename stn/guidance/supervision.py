"""Supervision with the true pose."""

from torch import Tensor

from stn.maps import Map, circle


def supervision(maps: Map, true_BN2: Tensor) -> Tensor:
    """How far the maps are from the true ones, a scalar. A control: it needs to know the pose of every image.

    true_BN2: where the true maps send the points of `circle`.
    """
    return (maps.apply(circle(true_BN2.device)) - true_BN2).square().sum(-1).mean()
