"""Spatial transformers: a model for each family of maps in stn/transformations/."""

from dataclasses import dataclass, field, replace
from typing import Literal

from baselines.ranges import within
from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn
from stn.transformations.classes import BY_CLASSES
from stn.transformer import SpatialTransformer


@dataclass(frozen=True)
class TurningStn(Stn):
    """A family that turns images.

    head: how the localisation network says the turn: as a direction that it regresses, or by `classes`: how likely
        each of the angles is; the turn is their circular mean, see stn/transformations/classes.py. With `supervision`
        the true angle is then told by a cross-entropy.
    bins: angles of head=classes, in equal steps round the full circle.
    """

    head: Literal["regressed", "classes"] = field(default="regressed", metadata={"named_only": True})
    bins: int = within(4, 360, 36, named_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head != "classes" and self.bins != type(self).bins:
            raise ValueError("bins: goes with head=classes")
        if self.head == "classes" and self.supervision and self.steps > 1:
            raise ValueError("steps: the true class of a turn in several steps is not known; take steps=1")

    def transformer(self) -> SpatialTransformer:
        regressing = super().transformer()
        if self.head == "regressed":
            return regressing
        return replace(regressing, transformation=BY_CLASSES[self.family](self.bins))


@MODELS.register("stn_translation")
class StnTranslation(Stn):
    """A spatial transformer in front of the network; it chooses shifts. Source: Jaderberg et al. 2015, section 3.2."""

    family = "translation"


@MODELS.register("stn_attention")
class StnAttention(Stn):
    """A spatial transformer in front of the network; it chooses crops.

    Scales and shifts. Source: Jaderberg et al. 2015, eq. 2.
    """

    family = "attention"


@MODELS.register("stn_rotation")
class StnRotation(TurningStn):
    """A spatial transformer in front of the network; it chooses turns. See stn/transformations/."""

    family = "rotation"


@MODELS.register("stn_similarity")
class StnSimilarity(TurningStn):
    """A spatial transformer in front of the network; it chooses turns, scales and shifts. See stn/transformations/."""

    family = "similarity"


@MODELS.register("stn_affine")
class StnAffine(Stn):
    """A spatial transformer in front of the network; it chooses affine maps: turns, scales, shears and shifts.

    Source: Jaderberg et al. 2015, equation 1.
    """

    family = "affine"


@MODELS.register("stn_projective")
class StnProjective(Stn):
    """A spatial transformer in front of the network; it chooses projective maps: changes of perspective.

    Source: Jaderberg et al. 2015, section 4.1.
    """

    family = "projective"


@MODELS.register("stn_tps")
class StnTps(Stn):
    """A spatial transformer in front of the network; it chooses smooth bends.

    Thin-plate splines. Source: Jaderberg et al. 2015, section 4.1.
    """

    family = "tps"
