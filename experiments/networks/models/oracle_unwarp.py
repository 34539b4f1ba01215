"""The ceiling: images unwarped by their true pose, which no other variant is told; or by one that is slightly wrong.

Legend: B images, K uniform numbers an image, N points, 2 their x and y.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.ranges import at_least, within
from experiments.images.draws import normal
from experiments.networks.model import UsualModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, GivenMapsNetwork, Network, Site
from stn.affine import from_parts
from stn.maps import AffineMap, Map

DRAWS = 3
"""Uniform numbers that an image's error needs: for its size, for whether it is a gross one, and for which."""


@MODELS.register("oracle_unwarp")
@dataclass(frozen=True)
class OracleUnwarp(UsualModel):
    """The plain network on images turned back by their true pose: what a transformer could reach.

    What turning and scaling have taken from the pixels stays lost, so the ceiling is below the score on upright images.
    An augmentation is not undone.
    noise_deg: standard deviation of a Gaussian error of each image's angle, so that it is turned back not quite
        upright: drawn anew whenever the image is shown in training, and once for all tests. What a classifier gains
        from an angle that is known as well as that, however it was found.
    wrong: share of the images, drawn likewise, that are turned by any angle of the full circle instead.
    """

    role = "ceiling"
    noise_deg: float = at_least(0, 0.0, named_only=True)
    wrong: float = within(0, 1, 0.0, named_only=True)

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        return DRAWS if self.noise_deg or self.wrong else 0

    def build(self, site: Site) -> Network:
        return GivenMapsNetwork(site, self.maps)

    def maps(self, batch: Batch) -> Map:
        true = batch.poses.from_upright()
        return Missed(true, self.error_deg(batch.u_BK)) if self.num_draws else true

    def error_deg(self, u_BK: Tensor) -> Tensor:
        """Of the angles, (B,). The same draws make errors in proportion, whatever their standard deviation."""
        error_B = self.noise_deg * normal(u_BK[:, 0]).float()
        return torch.where(u_BK[:, 1] < self.wrong, 360 * u_BK[:, 2] - 180, error_B)


@dataclass(frozen=True)
class Missed:
    """Maps that leave the image turned about its centre by some degrees, counter-clockwise where positive.

    aimed: what the maps would be without that.
    """

    aimed: Map
    error_deg_B: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """Shown points (N, 2) or (B, N, 2) to posed ones, (B, N, 2)."""
        turn = AffineMap(from_parts(angle_rad_B=self.error_deg_B * (math.pi / 180)))
        return self.aimed.apply(turn.apply(points))
