"""A control: an affine transformer that is told the true pose of every training image."""

from dataclasses import dataclass

from baselines.ranges import at_least
from experiments.networks.models import MODELS
from experiments.networks.spatial_transformer import Stn


@MODELS.register("stn_supervised")
@dataclass(frozen=True)
class StnSupervised(Stn):
    """A spatial transformer that is told the true poses in training.

    `stn_affine` with the pose as a second target, and nothing else changed: what is lost to not knowing the pose.
    supervision: large, so that the classifier's early wishes do not drown it.
    The pose of an augmented image is taken to be that of the image itself.
    """

    family = "affine"
    supervision: float = at_least(0, 10.0)
