"""A rival that learns turns from upright images alone: a second network is shown them turned, and learns by how much.

Legend: B images, C channels, H rows, W columns, K angles that are told apart.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.ranges import at_least, within
from experiments.images.resampling import resample
from experiments.networks.model import LocalisingModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Localisation, Network, Site
from experiments.networks.turning import TurningNetwork, turn
from stn.localisation import predict
from stn.maps import in_float32
from stn.sampler import base_grid


@MODELS.register("amr")
@dataclass(frozen=True)
class Amr(LocalisingModel):
    """The plain network, which is shown images turned back by the angle that a second network sees in them.

    In training the classifier sees the images as they are, and the second network each one turned by an angle drawn
    anew, which it learns to name. Both learn at once and share nothing. Training images should be upright, and no
    policy should turn them: what they are is what images are turned back to. The second network sees images resampled
    as poses are, turned or not, and of them the inscribed disc alone: else frames and blur would tell the angle, and
    test images have other ones.
    num_angles: classes of angles, round the full circle in equal steps.
    localisation: the second network, one of those that localise for spatial transformers.
    loc_lr_factor: its learning rate as a factor of the base rate.
    Source: Tuggener et al. 2023, Artificial Mental Rotation, arXiv:2311.08525: 360 angles, learned from upright images
    alone. More than its abstract was not at hand: sizes, and that both learn at once, are ours.
    """

    role = "other"
    num_draws = 1
    num_angles: int = within(4, 360, 72)
    localisation: Localisation = "deep"
    loc_lr_factor: float = at_least(0, 1.0)

    def build(self, site: Site) -> Network:
        return AmrNetwork(site, self)


class AmrNetwork(TurningNetwork):
    """A backbone, and a network that names the angle by which an image is turned."""

    def __init__(self, site: Site, model: Amr) -> None:
        super().__init__(site, site.backbone())
        self.num_angles, self.num_draws = model.num_angles, model.num_draws
        self.localisation = site.localisation(model.localisation, model.num_angles)

    def angle_logits(self, raw_BCHW: Tensor, turned_deg_B: Tensor) -> Tensor:
        """Of each angle by which an image may lie turned counter-clockwise, once it is turned by so much, (B, K)."""
        image_px = raw_BCHW.shape[2]
        with torch.no_grad(), in_float32(raw_BCHW):
            turned_BCHW = resample(raw_BCHW, turn(turned_deg_B), image_px)
        disc_HW = (base_grid(image_px, image_px, raw_BCHW.device).square().sum(1) <= 1).view(image_px, image_px)
        seen_BCHW = (turned_BCHW * disc_HW).contiguous(memory_format=torch.channels_last)
        return predict(self.localisation, self.normalise(seen_BCHW))

    def turn_deg(self, raw_BCHW: Tensor) -> Tensor:
        as_it_is_B = torch.zeros(raw_BCHW.shape[0], device=raw_BCHW.device)
        return self.angle_logits(raw_BCHW, as_it_is_B).argmax(1) * (-360 / self.num_angles)

    def forward(self, batch: Batch) -> Tensor:
        return self.backbone(self.normalise(batch.raw_BCHW if self.training else self.look(batch)))

    def logits_and_penalty(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        num_steps_B = batch.u_BK[:, 0] * self.num_angles
        nearest_B = num_steps_B.round().long() % self.num_angles
        logits_BK = self.angle_logits(batch.raw_BCHW, num_steps_B * (360 / self.num_angles))
        return self(batch), F.cross_entropy(logits_BK, nearest_B)
