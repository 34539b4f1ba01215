"""The oracle augmentation: fresh draws of the very pose that the task's images are under."""

from dataclasses import dataclass
from typing import ClassVar

from baselines.policies import POLICIES, Policy


@POLICIES.register("posed")
@dataclass(frozen=True)
class Posed(Policy):
    """Each image under the task's own pose, drawn anew whenever it is shown, from its upright pixels.

    `cnn+posed` at the pose R trains as `cnn` does at `R:fresh=true`. Where the pose is fresh already, and where images
    are upright, it does nothing.
    """

    num_draws: ClassVar[int] = 0
    poses_anew: ClassVar[bool] = True
