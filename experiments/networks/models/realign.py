"""Alignment that teaches itself: a network learns to undo turns of its own, and turns images upright by what it learns.

Legend: B images, C channels, H rows, W columns, K classes of angles, X classes of images.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.ranges import at_least, within
from baselines.whitening import Whitening
from experiments.networks.model import LocalisingModel
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Localisation, Network, Site
from experiments.networks.spatial_transformer import statistics_kept
from stn.affine import from_parts, identity
from stn.blur import blur
from stn.guidance import supervision
from stn.localisation import predict
from stn.maps import AffineMap, Map, circle
from stn.sampler import Sampler, base_grid
from stn.transformations.classes import RotationByClasses
from stn.transformer import SpatialTransformer

FADING = 0.15
"""The outer part of an image's disc, as a share of its radius, in which what is looked for the angle fades to black."""


@MODELS.register("realign")
@dataclass(frozen=True)
class Realign(LocalisingModel):
    """A network that aligns images by the turns that it believes they have; it learns these from turns of its own.

    The localisation network is shown each training image turned further by a known angle, and learns to undo that, by a
    cross-entropy over classes of angles. Of images whose own angles are spread evenly about upright, what is to be
    expected of the further turn, given all that can be seen, is the whole turn away from upright: so the network learns
    to turn images upright, although nobody says what upright is. It learns to name the classes of images besides: what
    tells these tells turns sooner than the angles by themselves would teach it. The classifier's own loss teaches it
    nothing.
    rounds: how often an image is aligned when it is tested; all rounds are one map, and resample the image once.
        Training has one part more, equally long: in its first part the classifier sees images as they are, in the
        second it sees them aligned once, and so on.
    bootstrap: whether the images that the localisation network is taught by are aligned as well, as the source has it,
        so that their spread shrinks. Nothing then holds what upright is, which may wander for each kind of image.
    max_deg: the further turns are U(-max, max). At less than 180 only a part of an image's own angle is undone.
    bins: classes of angles, in equal steps round the full circle; the turn is their circular mean, see
        stn/transformations/classes.py.
    classes: weight of the cross-entropy over the images' classes; 0: the localisation network does not learn them.
    blur_px: standard deviation of the blur under which the network looks for the angle, so that sharp images and
        resampled ones look alike to it. It sees their inscribed disc alone, whose edge fades, as a frame would tell the
        further turn; so would the steps of a disc of pixels.
    localisation: its network. loc_lr_factor: its learning rate as a factor of the base rate.
    Source: the idea of Schmidt and Stober 2025, Robust Canonicalization through Bootstrapped Data Re-Alignment,
    arXiv:2510.08178 (its abstract and introduction): a canonicaliser is trained jointly with re-aligning the training
    images step by step, whose spread of angles shrinks until they are aligned, as a canonicaliser has to assume; when
    tested, it aligns images before they are classified. The rest is ours: they change the training set, and here every
    image is aligned anew whenever it is shown; they may train the canonicaliser by another loss, from other turns.
    """

    role = "transformer"
    num_draws = 2
    rounds: int = within(1, 8, 1)
    bootstrap: bool = False
    max_deg: float = within(0, 180, 180.0, ends="(]")
    bins: int = within(4, 360, 36)
    classes: float = at_least(0, 1.0)
    blur_px: float = within(0, 8, 1.0)
    localisation: Localisation = "backbone"
    loc_lr_factor: float = at_least(0, 1.0)

    def build(self, site: Site) -> Network:
        return RealignNetwork(site, self)


class RealignNetwork(Network):
    """A backbone behind turns that a localisation network finds, in rounds."""

    def __init__(self, site: Site, model: Realign) -> None:
        super().__init__(site, site.backbone())
        self.model = model
        self.turn = RotationByClasses(model.bins)
        self.localisation = site.localisation(model.localisation, model.bins + bool(model.classes) * site.num_classes)
        radius_N = base_grid(site.image_px, site.image_px, torch.device("cpu")).square().sum(1).sqrt()
        # Fading, and not cut off: the steps of a disc of pixels would turn with the image and tell the angle.
        fading_N = 0.5 - 0.5 * (math.pi * ((1 - radius_N) / FADING).clamp(0, 1)).cos()
        self.fading_HW: Tensor
        self.register_buffer("fading_HW", fading_N.view(site.image_px, site.image_px), persistent=False)

    def blurred(self, raw_BCHW: Tensor) -> Tensor:
        """Images as the localisation network is given them, normalised."""
        return self.normalise(blur(raw_BCHW * self.fading_HW, self.model.blur_px))

    def say(self, raw_BCHW: Tensor) -> Tensor:
        """Logits of angles, and after these of classes of images, if it learns them."""
        return predict(self.localisation, self.blurred(raw_BCHW))

    def localise(self, raw_BCHW: Tensor) -> Tensor:
        """Parameters of the turns that images are to be looked at under, (B, bins)."""
        return self.say(raw_BCHW)[:, : self.model.bins]

    def whiten(self, raw_BCHW: Tensor) -> None:
        super().whiten(raw_BCHW)
        for layer in self.localisation.modules():  # filters for sharp images leave next to nothing of blurred ones
            if isinstance(layer, Whitening):
                layer.fit(self.blurred(raw_BCHW))

    def rounds_at(self, progress: float) -> int:
        """How often images are aligned when so much of training is done."""
        return min(self.model.rounds, int(progress * (self.model.rounds + 1)))

    def aligning(self, raw_BCHW: Tensor, rounds: int) -> AffineMap:
        """The turns that as many rounds find; no gradient passes."""
        if not rounds:
            return AffineMap(identity(raw_BCHW.shape[0], device=raw_BCHW.device))
        with torch.no_grad(), statistics_kept(self):
            (found,) = SpatialTransformer(self.turn, Sampler(), rounds).maps(raw_BCHW, self.localise)
        assert isinstance(found, AffineMap)
        return found

    def maps(self, batch: Batch) -> list[Map]:
        return [self.aligning(batch.raw_BCHW, self.rounds_at(batch.progress))]

    def look(self, batch: Batch) -> Tensor:
        return Sampler()(batch.raw_BCHW, self.maps(batch)[0])

    def logits_and_penalty(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        aligning = self.aligning(batch.raw_BCHW, self.rounds_at(batch.progress))
        logits_BX = self.backbone(self.normalise(Sampler()(batch.raw_BCHW, aligning)))
        taught_by = aligning if self.model.bootstrap else self.aligning(batch.raw_BCHW, 0)
        return logits_BX, self.mistaken(batch, taught_by)

    def mistaken(self, batch: Batch, aligning: AffineMap) -> Tensor:
        """What the network gets wrong of images that are aligned so and turned further: turn and class; a scalar."""
        further = turn((2 * batch.u_BK[:, 0] - 1) * math.radians(self.model.max_deg))
        # In two steps, the first of which ends anywhere: what resampling leaves behind would tell the turn of one.
        anywhere = turn(batch.u_BK[:, 1] * 2 * math.pi)
        sampler = Sampler()
        first_BCHW = sampler(batch.raw_BCHW, aligning.compose(anywhere))
        turned_BCHW = sampler(first_BCHW, anywhere.inverse().compose(further))
        angles_BK, classes_BX = self.say(turned_BCHW).tensor_split([self.model.bins], dim=1)
        wrong = supervision(self.turn(angles_BK), further.inverse().apply(circle(batch.raw_BCHW.device)))
        if self.model.classes and batch.labels_B is not None:
            wrong = wrong + self.model.classes * F.cross_entropy(classes_BX, batch.labels_B)
        return wrong


def turn(angle_rad_B: Tensor) -> AffineMap:
    """Maps that turn points from x to y."""
    return AffineMap(from_parts(angle_rad_B=angle_rad_B))
