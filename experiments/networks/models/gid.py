"""A rival that learns nothing about turns: every image is turned until it is brightest on one and the same side.

Legend: B images, C channels, H rows, W columns.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import GivenMapsNetwork, Network, Site
from experiments.networks.turning import turn
from stn.sampler import base_grid


@MODELS.register("gid")
@dataclass(frozen=True)
class Gid(UsualModel):
    """The plain network on images that are turned so that all are brightest on the right, in training as in testing.

    Where an image is brightest is the direction of the sum, over the pixels of its inscribed disc, of brightness times
    a vector from the centre to the pixel. It turns with the image, and no angle is learned.
    weight: the length of these vectors: `angle`: all have 1; `centroid`: a pixel's distance, so that the sum points to
        the centroid of brightness.
    Source: Valero-Abundio et al. 2026, General Intensity Direction, arXiv:2602.20930: an orientation of each image from
    statistics of its pixels' angles, weighted by brightness, which is turned to a fixed one. Only its abstract and
    summaries of its method were at hand, so details may differ.
    """

    role = "other"
    weight: Literal["angle", "centroid"] = "angle"

    def build(self, site: Site) -> Network:
        return GivenMapsNetwork(site, lambda batch: turn(-direction_deg(batch.raw_BCHW, self.weight)))


def direction_deg(raw_BCHW: Tensor, weight: str) -> Tensor:
    """Where images are brightest, degrees counter-clockwise from the right, (B,)."""
    grid_HW2 = base_grid(*raw_BCHW.shape[2:], raw_BCHW.device).view(*raw_BCHW.shape[2:], 2)
    radius_HW = grid_HW2.norm(dim=2)
    length_HW = radius_HW if weight == "centroid" else torch.ones_like(radius_HW)
    length_HW = length_HW * (radius_HW <= 1) / radius_HW.clamp_min(1e-6)
    bright_BHW = raw_BCHW.float().mean(1) * length_HW
    # On the screen y points down.
    x_B, y_B = ((bright_BHW * grid_HW2[:, :, axis]).sum((1, 2)) for axis in range(2))
    return torch.atan2(-y_B, x_B).rad2deg()
