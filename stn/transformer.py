"""The spatial transformer: a localisation network's numbers become maps, and the maps say where to look.

Legend: B images, C channels, H rows, W columns, P parameters of the transformation, S of all heads' parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stn.maps import AffineMap, Map, MatrixMap
from stn.sampler import Sampler
from stn.transformations import Transformation

Localise = Callable[[Tensor], Tensor]
"""From raw images (B, C, H, W) to the parameters of all heads, (B, S), zeros for the start."""

Resample = Callable[[Tensor, Map], Tensor]


@dataclass(frozen=True)
class SpatialTransformer:
    """How predicted numbers become one or several maps for each image.

    steps: with several, each step looks at what the step before it saw, and predicts what is still to be done; the
        maps are composed and the original is resampled once, so that nothing blurs.
        Source: Lin and Lucey 2017, Inverse Compositional Spatial Transformer Networks, section 4.
    heads: with several, each looks at a part of the image of its own: their maps start as tiles of the image.
        Source: Jaderberg et al. 2015, section 3.4, and section 4.3 for tiled starts.
    Raises ValueError for steps of a transformation whose maps do not compose.
    """

    transformation: Transformation
    sampler: Sampler
    steps: int = 1
    heads: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.heads < 1:
            raise ValueError(f"steps and heads are 1 or more, got {self.steps} and {self.heads}")
        if self.steps > 1 and not self.transformation.composes:
            raise ValueError("steps: maps of this transformation do not compose; take steps=1")
        if self.heads > 1 and self.steps > 1:
            raise ValueError("steps: several heads look once; take steps=1 or heads=1")

    @property
    def num_params(self) -> int:
        """Numbers that the localisation network predicts for an image."""
        return self.heads * self.transformation.num_params

    def maps(self, raw_BCHW: Tensor, localise: Localise) -> list[Map]:
        """For each head the maps from output to input coordinates, relative to the head's tile."""
        params_BS = localise(raw_BCHW)
        if self.heads > 1:
            return [self.transformation(params_BP) for params_BP in params_BS.chunk(self.heads, dim=1)]
        composed: Map = self.transformation(params_BS)
        for _ in range(self.steps - 1):
            assert isinstance(composed, MatrixMap)
            correction = self.transformation(localise(self.sampler(raw_BCHW, composed)))
            assert isinstance(correction, MatrixMap)
            composed = composed.compose(correction)
        return [composed]

    def look(self, x_BCHW: Tensor, maps: list[Map], size_px: int | None = None) -> list[Tensor]:
        """What each head sees of the images: (B, C, size_px, size_px)."""
        size = None if size_px is None else (size_px, size_px)
        if self.heads == 1:
            return [self.sampler(x_BCHW, maps[0], size)]
        tiles = tile_maps(self.heads, x_BCHW.shape[0], x_BCHW.device)
        return [self.sampler(x_BCHW, _Chain(tile, inner), size) for tile, inner in zip(tiles, maps, strict=True)]


@dataclass(frozen=True)
class _Chain:
    """Two maps, one after another."""

    outer: Map
    inner: Map

    def apply(self, points: Tensor) -> Tensor:
        return self.outer.apply(self.inner.apply(points))


def tile_maps(heads: int, num: int, device: torch.device) -> list[AffineMap]:
    """Maps to as many tiles of the image, in the most square arrangement that the number has: 4 are 2 by 2."""
    rows = max(row for row in range(1, int(heads**0.5) + 1) if heads % row == 0)
    columns = heads // rows
    tiles = []
    for row in range(rows):
        for column in range(columns):
            theta = [[1 / columns, 0, (2 * column + 1) / columns - 1], [0, 1 / rows, (2 * row + 1) / rows - 1]]
            tiles.append(AffineMap(torch.tensor(theta, device=device).expand(num, 2, 3)))
    return tiles
