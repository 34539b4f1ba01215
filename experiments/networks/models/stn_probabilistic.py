"""A transformer that says how sure it is: for each image a distribution of maps, whose answers are averaged.

Legend: S samples, B images, C channels, H rows, W columns, P parameters of a map, N samples of all images, X logits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from baselines.ranges import at_least, within
from experiments.images.draws import normal
from experiments.networks.model import LocalisingModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Localisation, Network, Site
from stn.affine import from_parts
from stn.localisation import predict
from stn.maps import AffineMap, Map
from stn.sampler import Sampler
from stn.transformations.affine import Affine

NUM_PARAMS: Mapping[str, int] = {"rotation": 1, "similarity": 4, "affine": 6}


def map_of(params_BP: Tensor) -> AffineMap:
    """The maps of a family's parameters, which their number tells. Zeros are the identity.

    An angle, not a direction as in stn/transformations/: long directions would make the same noise a smaller turn.
    """
    if params_BP.shape[1] == NUM_PARAMS["affine"]:
        return Affine()(params_BP)
    parts: dict[str, Tensor] = {"angle_rad_B": params_BP[:, 0]}
    if params_BP.shape[1] == NUM_PARAMS["similarity"]:
        parts |= {"log_scale_B": params_BP[:, 1], "shift_B2": params_BP[:, 2:]}
    return AffineMap(from_parts(**parts))


@MODELS.register("stn_probabilistic")
@dataclass(frozen=True)
class StnProbabilistic(LocalisingModel):
    """A spatial transformer that predicts a distribution of maps for each image, and averages the answers.

    The localisation network gives mean and standard deviation of each of a map's parameters, which are independent
    Gaussians. Training draws from them (reparameterised, so that gradients reach both) and takes the mean probability
    of the draws' answers as the answer. What is said and shown of where it looks is the map of the means.
    The classification loss alone makes standard deviations smaller, whatever the image: of all distributions one that
    is a single point has the least mean loss (Singhal et al. 2023, arXiv:2309.16672). `entropy` stands against that.
    family: which maps. `rotation`: one parameter, the angle in radians. `similarity`: the logarithm of the scale and
        the shift (x, y) as well. `affine`: those of stn_affine, six offsets from the identity's matrix.
    samples: draws in training.
    tested: draws when it is not trained: always the same ones, for every image. 0: the map of the means alone.
    entropy: weight of the divergence, in nats, of each image's distribution from one with the same means and standard
        deviations of spread: minus its entropy, and what keeps it finite. 1: as in the evidence lower bound.
        0: without.
    spread: standard deviation of each parameter at the start, and the one that `entropy` pulls to. 0.1 is a turn by 6
        degrees, a scale of 1.1, or a shift by 0.05 of an image's side.
    localisation: its network, of those of spatial transformers. loc_lr_factor: its learning rate as a factor of the
        base rate.
    Source: Schwöbel et al. 2022, Probabilistic Spatial Transformer Networks, arXiv:2004.03637. Gaussians
    whose standard deviations the network gives, and a prior on these alone, are the simplest choices, and ours.
    """

    role = "transformer"
    family: Literal["rotation", "similarity", "affine"] = "affine"
    samples: int = within(1, 64, 1)
    tested: int = within(0, 64, 10)
    entropy: float = at_least(0, 0.1)
    spread: float = within(0, 2, 0.1, ends="(]")
    localisation: Localisation = "lenet"
    loc_lr_factor: float = at_least(0, 0.1)

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        return self.samples * NUM_PARAMS[self.family]

    def build(self, site: Site) -> Network:
        return ProbabilisticNetwork(site, self)


@dataclass(frozen=True)
class Belief:
    """Independent Gaussians: means and logarithms of standard deviations, (B, P), float32."""

    mean_BP: Tensor
    log_sd_BP: Tensor

    def at(self, normal_SBP: Tensor) -> Tensor:
        """Parameters that standard normal numbers stand for, (S, B, P)."""
        return self.mean_BP + self.log_sd_BP.exp() * normal_SBP

    def divergence(self, sd: float) -> Tensor:
        """Kullback-Leibler divergence from Gaussians of these means and this standard deviation, nats, (B,)."""
        log_ratio_BP = self.log_sd_BP - math.log(sd)
        return ((2 * log_ratio_BP).exp() / 2 - log_ratio_BP - 0.5).sum(1)


class ProbabilisticNetwork(Network):
    """A backbone behind maps that are drawn for each image from what a localisation network says."""

    def __init__(self, site: Site, model: StnProbabilistic) -> None:
        super().__init__(site, site.backbone())
        self.model = model
        self.num_draws = model.num_draws
        num_params = NUM_PARAMS[model.family]
        self.localisation = site.localisation(model.localisation, 2 * num_params)
        u_SP = torch.rand(model.tested, num_params, generator=torch.Generator().manual_seed(0), device="cpu")
        self.tested_SP: Tensor
        self.register_buffer("tested_SP", normal(u_SP).float(), persistent=False)

    def believe(self, raw_BCHW: Tensor) -> Belief:
        mean_BP, log_ratio_BP = predict(self.localisation, self.normalise(raw_BCHW)).chunk(2, dim=1)
        return Belief(mean_BP, math.log(self.model.spread) + log_ratio_BP)

    def maps(self, batch: Batch) -> list[Map]:
        return [map_of(self.believe(batch.raw_BCHW).mean_BP)]

    def look(self, batch: Batch) -> Tensor:
        return Sampler()(batch.raw_BCHW, self.maps(batch)[0])

    def forward(self, batch: Batch) -> Tensor:
        return self.logits_of(batch, self.believe(batch.raw_BCHW))

    def logits_of(self, batch: Batch, belief: Belief) -> Tensor:
        """Logarithms of the classes' mean probabilities over draws; logits of one draw."""
        if self.training:
            drawn_SBP = normal(batch.u_BK).float().unflatten(1, (self.model.samples, -1)).transpose(0, 1)
            params_SBP = belief.at(drawn_SBP)
        else:
            params_SBP = belief.at(self.tested_SP[:, None]) if self.model.tested else belief.mean_BP[None]
        num = params_SBP.shape[0]
        copies_NCHW = batch.raw_BCHW.repeat(num, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        seen_NCHW = Sampler()(copies_NCHW, map_of(params_SBP.flatten(0, 1)))
        logits_NX = self.backbone(self.normalise(seen_NCHW))
        if num == 1:
            return logits_NX
        return logits_NX.float().log_softmax(1).unflatten(0, (num, -1)).logsumexp(0) - math.log(num)

    def logits_and_penalty(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        belief, weight = self.believe(batch.raw_BCHW), self.model.entropy
        penalty = weight * belief.divergence(self.model.spread).mean() if weight else None
        return self.logits_of(batch, belief), penalty
