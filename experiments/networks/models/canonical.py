"""A transformer that cannot sit still: a small network scores copies of each image, and the best goes on.

Legend: K copies of an image, B images, C channels, H rows, W columns, V numbers that the scorer gives, X logits.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ranges import at_least, within
from experiments.networks.copies import Copies, from_the_middle
from experiments.networks.model import LocalisingModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Localisation, Network, Site
from ledger.roles import Role
from stn.localisation import last_dense, predict
from stn.maps import AffineMap, Map, circle, in_float32

MAX_COPIES = 256
"""Of an image. What memory a training step takes grows with them."""
LEAST_STEP_PX = 0.5
"""Copies that lie closer to each other look the same."""
NUM_FEATURES = 32
"""Of a copy, where the contrastive loss compares copies by them; the first one is its score."""


@MODELS.register("canonical")
@dataclass(frozen=True)
class Canonical(LocalisingModel):
    """A network that sees each image turned as a small network likes it best.

    That network, the scorer, looks at turned copies of the image one by one. An image that is turned by one step has
    the same copies in another order, so the choice turns with it: exactly at quarter turns, else as well as images can
    be resampled. At its start all scores are 0, which with `hard` leaves images as they are. What is said and shown of
    where it looks is the likeliest copy, also where the classifier sees others.
    Copies may be enlarged, shrunk and shifted besides, in all combinations with the turns. Of a quarter turn all that
    was said stays true; of a change of size or place it is true only as far as the copies reach.
    num_turns: by how many angles copies are turned; 1 turns nothing.
    max_deg: 180: they go round the full circle in equal steps. Less, the range that the pose is known to have: from
        -max_deg to max_deg, both included.
    num_scales: sizes of the copies, an odd number; 1 is the image's own. max_scale: from 1/max_scale to max_scale, in
        equal steps of the logarithm.
    num_shifts: shifts along each axis, an odd number, so that there are as many places as its square; 1 moves nothing.
        max_shift: from -max_shift to max_shift of the image's side, in equal steps.
    choice: what of the copies the classifier sees. `hard`: the best one; in training gradients pass as if it were the
        mean (straight through). `soft`: the mean of all, weighted by their probabilities. `latent`: every copy; the
        probabilities of its answers are averaged, weighted by the copy's, so that the loss is the exact likelihood of
        the class with the copy unknown.
    copies: with `latent`, how many the classifier sees of each image in training: drawn by their probabilities, without
        repetition, and weighted by them, which makes likely copies likelier than the sum over all would. 0: all.
    tested: with `latent`, the same when it is not trained: the most probable ones. 0: all.
    prior: weight of the cross-entropy between the probabilities and the image as it is. Training images should then be
        mostly upright. Source: Mondal et al. 2023, arXiv:2310.01647, section 3.2.
    contrast: weight of the mean absolute product of two copies' features: copies should not look alike to the scorer.
        Source: Panigrahi and Mondal 2024, arXiv:2405.14089, section 3; without their term for artefacts of turning.
    supervision: weight of the cross-entropy between the probabilities and the copy nearest to the true pose: a control.
    scorer: its network, one of those that localise for spatial transformers.
    scorer_px: side of the images that it looks at; 0 for that of the images.
    loc_lr_factor: its learning rate as a factor of the base rate.
    Sources: Kaba et al. 2023, arXiv:2211.06489; Panigrahi and Mondal 2024.
    """

    num_turns: int = within(1, 72, 16)
    max_deg: float = within(0, 180, 180.0, ends="(]")
    choice: Literal["hard", "soft", "latent"] = "hard"
    copies: int = within(0, MAX_COPIES, 0)
    tested: int = within(0, MAX_COPIES, 0)
    prior: float = at_least(0, 0.0)
    contrast: float = at_least(0, 0.0)
    supervision: float = at_least(0, 0.0)
    scorer: Localisation = "deep"
    scorer_px: int = within(0, 512, 0)
    loc_lr_factor: float = at_least(0, 1.0)
    num_scales: int = within(1, 9, 1, named_only=True)
    max_scale: float = within(1, 10, 1.4, ends="(]", named_only=True)
    num_shifts: int = within(1, 9, 1, named_only=True)
    max_shift: float = within(0, 0.5, 5 / 32, ends="(]", named_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_deg < 180 and self.num_turns % 2 == 0:
            raise ValueError(f"num_turns: {self.num_turns} turns from -max_deg to max_deg leave out the image itself")
        for kind in ("scale", "shift"):
            number, farthest = getattr(self, f"num_{kind}s"), getattr(self, f"max_{kind}")
            if number % 2 == 0:
                raise ValueError(f"num_{kind}s: {number} is even, which leaves out the image itself")
            if number == 1 and farthest != getattr(type(self), f"max_{kind}"):
                raise ValueError(f"max_{kind}: goes with num_{kind}s of 3 or more")
        if not 2 <= self.num_copies <= MAX_COPIES:
            factors = f"{self.num_turns} turns x {self.num_scales} scales x {self.num_shifts**2} places"
            raise ValueError(f"num_turns: {factors} are {self.num_copies:,} copies, not between 2 and {MAX_COPIES}")
        for name in ("copies", "tested"):
            if getattr(self, name) and self.choice != "latent":
                raise ValueError(f"{name}: goes with choice=latent")
            if getattr(self, name) > self.num_copies:
                raise ValueError(f"{name}: {getattr(self, name)} is more than the {self.num_copies} that there are")
        if self.copies == 1:
            raise ValueError("copies: of one there is nothing to learn which is better")

    @property
    def role(self) -> Role:  # type: ignore[override]
        return "told" if self.supervision else "transformer"

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        return self.num_copies if self.copies else 0

    @property
    def num_copies(self) -> int:
        return self.num_turns * self.num_scales * self.num_shifts**2

    def orbit(self, image_px: int) -> Copies:
        """All copies; the image itself, the first, wins where scores are equal.

        Raises ValueError for sizes or shifts that nothing could tell from each other in images of this size.
        """
        log_scales = from_the_middle(self.num_scales, math.log(self.max_scale))
        shifts = from_the_middle(self.num_shifts, 2 * self.max_shift)  # the image is 2 wide
        for kind, steps in (("scale", [math.expm1(log_scale) for log_scale in log_scales]), ("shift", shifts)):
            step_px = max(steps[1:3], default=2) * image_px / 2  # at the image's edge
            if step_px < LEAST_STEP_PX:
                raise ValueError(f"max_{kind}: {len(steps)} {kind}s are {step_px:.2g} px apart, too near to tell")
        if self.max_deg == 180:
            angles_deg = [360 * k / self.num_turns for k in range(self.num_turns)]
        else:
            angles_deg = from_the_middle(self.num_turns, self.max_deg)
        return Copies(angles_deg, [math.exp(log_scale) for log_scale in log_scales], shifts)

    def build(self, site: Site) -> Network:
        return CanonicalNetwork(site, self)


class CanonicalNetwork(Network):
    """A scorer of copies, and a backbone."""

    def __init__(self, site: Site, model: Canonical) -> None:
        super().__init__(site, site.backbone())
        self.model = model
        self.num_draws = model.num_draws
        self.scorer_px = model.scorer_px or site.image_px
        if self.scorer_px > site.image_px:
            raise ValueError(f"scorer_px: it needs images of {self.scorer_px} px or more, got {site.image_px}")
        num_features = NUM_FEATURES if model.contrast else 1
        self.localisation = site.localisation(model.scorer, num_features, image_px=self.scorer_px)
        if model.contrast:  # zeros would stay zero: a product of two has no gradient there
            nn.init.normal_(last_dense(self.localisation).weight[1:], std=0.1)
        self.copies = model.orbit(self.scorer_px)

    def features(self, raw_BCHW: Tensor) -> Tensor:
        """What the scorer says of each copy, (B, K, V)."""
        small_BCHW = F.adaptive_avg_pool2d(raw_BCHW, self.scorer_px) if self.scorer_px < raw_BCHW.shape[2] else raw_BCHW
        copies_KBCHW = self.copies(small_BCHW)
        features_NV = predict(self.localisation, self.normalise(copies_KBCHW.flatten(0, 1)))
        return features_NV.unflatten(0, copies_KBCHW.shape[:2]).transpose(0, 1)

    def likeliest(self, raw_BCHW: Tensor) -> Tensor:
        """The copy of each image that has the highest score, (B,)."""
        return self.features(raw_BCHW)[:, :, 0].argmax(1)

    def maps(self, batch: Batch) -> list[Map]:
        return [self.copies.maps(self.likeliest(batch.raw_BCHW))]

    def look(self, batch: Batch) -> Tensor:
        return self.copies.each(batch.raw_BCHW, self.likeliest(batch.raw_BCHW))

    def forward(self, batch: Batch) -> Tensor:
        return self.logits_of(batch, self.features(batch.raw_BCHW)[:, :, 0])

    def logits_of(self, batch: Batch, score_BK: Tensor) -> Tensor:
        raw_BCHW, choice = batch.raw_BCHW, self.model.choice
        if choice == "latent":
            return self._marginal(batch, score_BK)
        if choice == "hard" and not self.training:
            return self.backbone(self.normalise(self.copies.each(raw_BCHW, score_BK.argmax(1))))
        weight_BK = score_BK.softmax(1)
        if choice == "hard":
            best_BK = F.one_hot(score_BK.argmax(1), score_BK.shape[1])
            weight_BK = best_BK + weight_BK - weight_BK.detach()
        with in_float32(raw_BCHW):  # pixels as they are when it is tested
            seen_BCHW = torch.einsum("bk,kbchw->bchw", weight_BK, self.copies(raw_BCHW))
        return self.backbone(self.normalise(seen_BCHW.contiguous(memory_format=torch.channels_last)))

    def _marginal(self, batch: Batch, score_BK: Tensor) -> Tensor:
        """Logarithms of the classes' probabilities, whatever the copy."""
        num = self.model.copies if self.training else self.model.tested
        if not num:
            seen_NCHW, score_BM = self.copies(batch.raw_BCHW).flatten(0, 1), score_BK
        else:
            order_BK = score_BK.detach()
            if self.training:  # Gumbel noise: the largest are draws without repetition (Kool et al. 2019, 1903.06059)
                order_BK = order_BK - batch.u_BK.clamp(1e-7, 1 - 1e-7).log().neg().log()
            index_BM = order_BK.topk(num, dim=1).indices
            score_BM = score_BK.gather(1, index_BM)
            seen_NCHW = torch.cat([self.copies.each(batch.raw_BCHW, index_B) for index_B in index_BM.T])
        logits_NX = self.backbone(self.normalise(seen_NCHW.contiguous(memory_format=torch.channels_last)))
        log_answer_MBX = logits_NX.float().log_softmax(1).unflatten(0, (-1, batch.raw_BCHW.shape[0]))
        return torch.logsumexp(score_BM.log_softmax(1).T[:, :, None] + log_answer_MBX, dim=0)

    def logits_and_penalty(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        features_BKV, model = self.features(batch.raw_BCHW), self.model
        score_BK, terms = features_BKV[:, :, 0], []
        if model.prior:
            terms.append(model.prior * -score_BK.log_softmax(1)[:, 0].mean())
        if model.contrast:
            product_BKK = features_BKV @ features_BKV.mT
            num = len(self.copies)
            terms.append(model.contrast * product_BKK.tril(-1).abs().mean() * 2 * num / (num - 1))
        if model.supervision:
            terms.append(model.supervision * F.cross_entropy(score_BK, self.nearest(batch)))
        return self.logits_of(batch, score_BK), torch.stack(terms).sum() if terms else None

    def nearest(self, batch: Batch) -> Tensor:
        """Which copy is nearest to the image as it was before its pose, (B,)."""
        points_N2 = circle(batch.raw_BCHW.device)
        copy_KN2 = AffineMap(self.copies.theta_K23).apply(points_N2)
        true_BN2 = batch.poses.from_upright().apply(points_N2)
        return (copy_KN2[None] - true_BN2[:, None]).square().sum((2, 3)).argmin(1)
