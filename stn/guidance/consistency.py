"""Consistency of the pose: maps of further-turned images must turn with them.

Legend: B images, C channels, H rows, W columns, N points.
"""

from collections.abc import Callable

from torch import Tensor

from stn.affine import from_parts
from stn.maps import AffineMap, Map, circle
from stn.sampler import Sampler


def consistency(
    raw_BCHW: Tensor, maps: Map, find_maps: Callable[[Tensor], Map], angle_rad_B: Tensor, sampler: Sampler
) -> Tensor:
    """How far the maps of further-turned images are from having turned with them, a scalar. Needs no labels.

    maps: found for the images as they are. find_maps: finds them for others. angle_rad_B: of the further turns.
    A network with this property sees the same picture however an image is turned; which picture it is, stays open.
    The distance is measured in units of the picture's own size: otherwise to look at nothing would be consistent.
    Source: Kaba et al. 2023, Equivariance with Learned Canonicalization Functions, section 3: equivariance of the
    canonicalisation function, here asked for by a penalty instead of built in.
    """
    turn = AffineMap(from_parts(angle_rad_B=angle_rad_B))  # turned(y) = image(turn y)
    turned_BCHW = sampler(raw_BCHW, turn)
    turned_maps = find_maps(turned_BCHW)
    # Both see the same picture if turned(turned_maps y) = image(turn turned_maps y) is image(maps y).
    points = circle(raw_BCHW.device)
    seen_BN2, again_BN2 = maps.apply(points), turn.apply(turned_maps.apply(points))
    size_B = (_spread(seen_BN2) + _spread(again_BN2)) / 2
    return ((seen_BN2 - again_BN2).square().sum(-1).mean(-1) / size_B.clamp_min(1e-6)).mean()


def _spread(points_BN2: Tensor) -> Tensor:
    """Mean squared distance of points from their centre, (B,): 1 for the circle itself."""
    return (points_BN2 - points_BN2.mean(1, keepdim=True)).square().sum(-1).mean(-1)
