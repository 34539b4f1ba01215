"""A rival: the image in polar coordinates, where turning and scaling it are shifts, which convolutions know.

Legend: B images, C channels, H rows, W columns, N points, 2 their x and y.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.backbones.cnn4 import conv_bn_relu
from baselines.ranges import at_least, within
from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from stn.sampler import Sampler, base_grid

Radius = Literal["log", "linear"]


@MODELS.register("polar")
@dataclass(frozen=True)
class Polar(UsualModel):
    """The plain network on images in polar coordinates, where a turn is a shift. The pictures are of the image's size.

    map: how the radius grows along a row: `log`, from 1 px, where scaling is a shift, or `linear`, from 0. Either way
        to the circle that touches the image's edges.
    wrap: share of the circle that goes on past either end of the rows, so that convolutions see across the seam.
    anti_alias: average 2x2 points for each pixel: far from the origin, rows are further apart than pixels.
    origin: the image's `centre`, or `learned`: the centroid of a heat map, which starts at the centre.
    loc_lr_factor: learning rate of the network that learns the origin, as a factor of the base rate.
    Source: Esteves et al. 2018, Polar Transformer Networks, arXiv:1709.01889, section 3.
    """

    role = "other"
    map: Radius = "log"
    wrap: float = within(0, 0.5, 0.125)
    anti_alias: bool = False
    origin: Literal["centre", "learned"] = "centre"
    loc_lr_factor: float = at_least(0, 0.1, plain=0.0)

    def build(self, site: Site) -> Network:
        return PolarNetwork(site, self)

    def lr_factors(self) -> Mapping[str, float]:
        return {"localisation": self.loc_lr_factor} if self.origin == "learned" else {}


@dataclass(frozen=True)
class PolarMap:
    """Maps from polar pictures to images: rows are angles, columns are radii.

    The rows go from -180 to 180 degrees and by `wrap` of the circle further at either end, x towards y; 0 points to the
    right. The columns go from the origin to a radius of half the image's side.
    origin_B2: in the image's normalised coordinates. image_px: side of the image.
    """

    origin_B2: Tensor
    image_px: int
    radius: Radius
    wrap: float

    def apply(self, points: Tensor) -> Tensor:
        """Points (N, 2) or (B, N, 2) of the pictures in normalised coordinates to (B, N, 2) of the images."""
        share, angle_rad = (points[..., 0] + 1) / 2, points[..., 1] * (math.pi * (1 + 2 * self.wrap))
        radius = share if self.radius == "linear" else ((1 - share) * math.log(2 / self.image_px)).exp()
        return self.origin_B2[:, None] + torch.stack([radius * angle_rad.cos(), radius * angle_rad.sin()], dim=-1)


class PolarNetwork(Network):
    """A backbone behind a polar picture."""

    def __init__(self, site: Site, model: Polar) -> None:
        super().__init__(site, site.backbone())
        self.model = model
        self.sampler = Sampler(anti_alias=model.anti_alias)
        self.localisation = heat_map(site.num_channels) if model.origin == "learned" else None

    def origin(self, raw_BCHW: Tensor) -> Tensor:
        """The origin in each image, (B, 2), in normalised coordinates."""
        if self.localisation is None:
            return torch.zeros(raw_BCHW.shape[0], 2, device=raw_BCHW.device)
        return centroid(self.localisation(self.normalise(raw_BCHW)))

    def look(self, batch: Batch) -> Tensor:
        raw_BCHW = batch.raw_BCHW
        where = PolarMap(self.origin(raw_BCHW), raw_BCHW.shape[-1], self.model.map, self.model.wrap)
        return self.sampler(raw_BCHW, where)


def heat_map(in_channels: int) -> nn.Sequential:
    """A small network of convolutions from images to one channel at half the resolution, the same everywhere at first.

    Being nothing but convolutions, it shifts with the image, and so does its centroid.
    """
    last = nn.Conv2d(16, 1, kernel_size=1, bias=False)
    nn.init.zeros_(last.weight)
    return nn.Sequential(conv_bn_relu(in_channels, 16, kernel=4, stride=2), conv_bn_relu(16, 16), last)


def centroid(heat_B1HW: Tensor) -> Tensor:
    """Mean place under the softmax of the heat, (B, 2), normalised coordinates, float32 whatever the autocast."""
    grid_N2 = base_grid(*heat_B1HW.shape[2:], heat_B1HW.device)
    weight_BN = heat_B1HW.float().flatten(1).softmax(1)
    return (weight_BN[:, :, None] * grid_N2).sum(1)
