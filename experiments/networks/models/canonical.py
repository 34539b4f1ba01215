"""A transformer that cannot sit still: a small network scores turned copies of each image, and the best goes on.

Legend: K copies of an image, B images, C channels, H rows, W columns, V numbers that the scorer gives, X logits.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ranges import at_least, within
from experiments.networks.model import LocalisingModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, Site
from experiments.networks.turning import TurningNetwork, each_turned, turn, turned
from ledger.roles import Role
from stn.localisation import LOCALISATIONS, predict
from stn.maps import circle, in_float32

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
    num_turns: copies of each image.
    max_deg: 180: they go round the full circle in equal steps. Less, the range that the pose is known to have: from
        -max_deg to max_deg, both included.
    choice: what of the copies the classifier sees. `hard`: the best one; in training gradients pass as if it were the
        mean (straight through). `soft`: the mean of all, weighted by their probabilities. `latent`: every copy; the
        probabilities of its answers are averaged, weighted by the copy's, so that the loss is the exact likelihood of
        the class with the turn unknown.
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

    num_turns: int = within(2, 72, 16)
    max_deg: float = within(0, 180, 180.0, ends="(]")
    choice: Literal["hard", "soft", "latent"] = "hard"
    copies: int = within(0, 72, 0)
    tested: int = within(0, 72, 0)
    prior: float = at_least(0, 0.0)
    contrast: float = at_least(0, 0.0)
    supervision: float = at_least(0, 0.0)
    scorer: Literal["lenet", "paper", "deep"] = "deep"
    scorer_px: int = within(0, 512, 0)
    loc_lr_factor: float = at_least(0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_deg < 180 and self.num_turns % 2 == 0:
            raise ValueError(f"num_turns: {self.num_turns} turns from -max_deg to max_deg leave out the image itself")
        for name in ("copies", "tested"):
            if getattr(self, name) and self.choice != "latent":
                raise ValueError(f"{name}: goes with choice=latent")
            if getattr(self, name) > self.num_turns:
                raise ValueError(f"{name}: {getattr(self, name)} is more than num_turns={self.num_turns}")
        if self.copies == 1:
            raise ValueError("copies: of one there is nothing to learn which is better")

    @property
    def role(self) -> Role:  # type: ignore[override]
        return "told" if self.supervision else "transformer"

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        return self.num_turns if self.copies else 0

    @property
    def angles_deg(self) -> tuple[float, ...]:
        """Counter-clockwise turns of the copies; that of the image itself, the first, wins where scores are equal."""
        if self.max_deg == 180:
            return tuple(360 * k / self.num_turns for k in range(self.num_turns))
        half = self.num_turns // 2
        return tuple(self.max_deg * k / half for k in sorted(range(-half, half + 1), key=abs))

    def build(self, site: Site) -> Network:
        return CanonicalNetwork(site, self)


class CanonicalNetwork(TurningNetwork):
    """A scorer of turned copies, and a backbone."""

    def __init__(self, site: Site, model: Canonical) -> None:
        super().__init__(site, site.backbone())
        self.model = model
        self.num_draws = model.num_draws
        self.scorer_px = model.scorer_px or site.image_px
        if self.scorer_px > site.image_px:
            raise ValueError(f"scorer_px: it needs images of {self.scorer_px} px or more, got {site.image_px}")
        num_features = NUM_FEATURES if model.contrast else 1
        self.localisation = LOCALISATIONS[model.scorer](site.num_channels, num_features, self.scorer_px)
        if model.contrast:  # zeros would stay zero: a product of two has no gradient there
            last = self.localisation[-1]
            assert isinstance(last, nn.Linear)
            nn.init.normal_(last.weight[1:], std=0.1)
        self.angle_deg_K: Tensor
        self.register_buffer("angle_deg_K", torch.tensor(model.angles_deg, device="cpu"), persistent=False)

    def turned(self, raw_BCHW: Tensor) -> Tensor:
        """All copies, (K, B, C, H, W)."""
        return torch.stack([turned(raw_BCHW, angle_deg) for angle_deg in self.model.angles_deg])

    def features(self, raw_BCHW: Tensor) -> Tensor:
        """What the scorer says of each copy, (B, K, V)."""
        small_BCHW = F.adaptive_avg_pool2d(raw_BCHW, self.scorer_px) if self.scorer_px < raw_BCHW.shape[2] else raw_BCHW
        copies_KBCHW = self.turned(small_BCHW)
        features_NV = predict(self.localisation, self.normalise(copies_KBCHW.flatten(0, 1)))
        return features_NV.unflatten(0, copies_KBCHW.shape[:2]).transpose(0, 1)

    def turn_deg(self, raw_BCHW: Tensor) -> Tensor:
        return self.angle_deg_K[self.features(raw_BCHW)[:, :, 0].argmax(1)]

    def forward(self, batch: Batch) -> Tensor:
        return self.logits_of(batch, self.features(batch.raw_BCHW)[:, :, 0])

    def logits_of(self, batch: Batch, score_BK: Tensor) -> Tensor:
        raw_BCHW, choice = batch.raw_BCHW, self.model.choice
        if choice == "latent":
            return self._marginal(batch, score_BK)
        if choice == "hard" and not self.training:
            return self.backbone(self.normalise(each_turned(raw_BCHW, self.angle_deg_K[score_BK.argmax(1)])))
        weight_BK = score_BK.softmax(1)
        if choice == "hard":
            best_BK = F.one_hot(score_BK.argmax(1), score_BK.shape[1])
            weight_BK = best_BK + weight_BK - weight_BK.detach()
        with in_float32(raw_BCHW):  # pixels as they are when it is tested
            seen_BCHW = torch.einsum("bk,kbchw->bchw", weight_BK, self.turned(raw_BCHW))
        return self.backbone(self.normalise(seen_BCHW.contiguous(memory_format=torch.channels_last)))

    def _marginal(self, batch: Batch, score_BK: Tensor) -> Tensor:
        """Logarithms of the classes' probabilities, whatever the turn."""
        num = self.model.copies if self.training else self.model.tested
        if not num:
            seen_NCHW, score_BM = self.turned(batch.raw_BCHW).flatten(0, 1), score_BK
        else:
            order_BK = score_BK.detach()
            if self.training:  # Gumbel noise: the largest are draws without repetition (Kool et al. 2019, 1903.06059)
                order_BK = order_BK - batch.u_BK.clamp(1e-7, 1 - 1e-7).log().neg().log()
            index_BM = order_BK.topk(num, dim=1).indices
            score_BM = score_BK.gather(1, index_BM)
            angle_deg_MB = self.angle_deg_K[index_BM.T]
            seen_NCHW = torch.cat([each_turned(batch.raw_BCHW, angle_deg_B) for angle_deg_B in angle_deg_MB])
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
            num = model.num_turns
            terms.append(model.contrast * product_BKK.tril(-1).abs().mean() * 2 * num / (num - 1))
        if model.supervision:
            terms.append(model.supervision * F.cross_entropy(score_BK, self.nearest(batch)))
        return self.logits_of(batch, score_BK), torch.stack(terms).sum() if terms else None

    def nearest(self, batch: Batch) -> Tensor:
        """Which copy is nearest to the image as it was before its pose, (B,)."""
        points_N2 = circle(batch.raw_BCHW.device)
        copy_KN2 = turn(self.angle_deg_K).apply(points_N2)
        true_BN2 = batch.poses.from_upright().apply(points_N2)
        return (copy_KN2[None] - true_BN2[:, None]).square().sum((2, 3)).argmin(1)
