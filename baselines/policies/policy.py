"""What a policy is, and the registry of all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from baselines.ranges import Ranged
from baselines.registry import Registry

Fill = Literal["black", "border", "reflection", "mean"]
"""What lies outside an image, as `Filling` says it."""


class Warp(Protocol):
    """Resamples (B, C, H, W) bilinearly under maps from output to input coordinates; what is outside is black, or fill.

    The maps, in coordinates (x, y) normalised to [-1, 1] from edge to edge (align_corners=False): affine (B, 2, 3),
    homographies (B, 3, 3), or for each output pixel the place it comes from, (B, h, w, 2).
    """

    def __call__(self, x_BCHW: Tensor, theta_out_to_in: Tensor, fill: Fill = "black", /) -> Tensor: ...


@dataclass(frozen=True)
class Filling(Ranged):
    """A policy that brings into view what lies outside an image.

    fill: what is there: `black`, `border` (its outermost pixels go on), `reflection` (the image, mirrored at its
        edges), or `mean`, its mean colour. Only a variant's name sets it.
    """

    fill: Fill = field(default="black", kw_only=True, metadata={"named_only": True})


class Policy(Protocol):
    """What every policy offers. One that inherits from it leaves images as they are, until it says otherwise.

    num_draws: uniform numbers in [0, 1) that one image needs.
    """

    @property
    def num_draws(self) -> int: ...

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        """Parameters of each image's transformation, each a tensor whose first dimension is B."""
        return {}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        """The transformed batch, (B, C, H, W); pixels in [0, 1], not normalised."""
        return x_BCHW


@runtime_checkable
class Alternating(Protocol):
    """A policy that draws some of its numbers once for each image and turns them over in every later epoch.

    num_alternating: how many, its last ones: they are u, u + 1/2, u, u + 1/2, ... modulo 1, u drawn in the first epoch.
    """

    @property
    def num_alternating(self) -> int: ...


def asks_for_poses(policy: Policy | Callable[..., Policy]) -> bool:
    """Whether images shall come to the policy under fresh draws of their task's pose, which need upright pixels."""
    return bool(getattr(policy, "poses_anew", False))


POLICIES: Registry[Callable[..., Policy]] = Registry("policy", "baselines.policies")
