"""What augmentation policies draw for the first images, and what they make of images by it."""

import torch
from torch import Tensor

from baselines.policies import Policy
from experiments.images.draws import uniform
from stn.sampler import warp


def draws(policy: Policy, num: int, epoch: int = 1) -> Tensor:
    return uniform(torch.arange(num), policy.num_draws, seed=0, epoch=epoch, purpose="augment")


def applied(policy: Policy, x_BCHW: Tensor, u_BK: Tensor | None = None) -> Tensor:
    """The images under these draws, by default their own."""
    u_BK = draws(policy, len(x_BCHW)) if u_BK is None else u_BK
    return policy.apply(x_BCHW, policy.draw(u_BK, x_BCHW.shape[-1]), warp)
