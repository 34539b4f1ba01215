"""Augmentation policies: transformed copies that a network is shown while it trains. One file each.

A policy is a frozen dataclass whose fields are its hyper-parameters. It draws parameters for each image from
uniform numbers that are handed to it, then applies them to a whole batch at once; it owns no randomness, so a draw
depends on nothing but (seed, epoch, image). Warps are applied by a function that is handed to it as well.

Legend: B images, C channels, H rows, W columns, K uniform numbers for each image.
"""

from baselines.policies.policy import POLICIES, Alternating, Fill, Filling, Policy, Warp, asks_for_poses

__all__ = ["POLICIES", "Alternating", "Fill", "Filling", "Policy", "Warp", "asks_for_poses"]
