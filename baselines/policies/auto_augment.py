"""AutoAugment: the policy that was found for CIFAR-10."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.policies import POLICIES
from baselines.policies.photometric import OPERATIONS, OperationPolicy, Strength

SUB_POLICIES: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("saturation", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("saturation", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("auto_contrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("saturation", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("saturation", 0.9, 9), ("equalize", 0.6, 0)),
    (("auto_contrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("saturation", 0.7, 0)),
    (("solarize", 0.4, 5), ("auto_contrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 0)),
)
"""Pairs of an operation, its probability and its level out of 9 (0 where it has none)."""


@POLICIES.register("auto_augment")
@dataclass(frozen=True)
class AutoAugment(OperationPolicy):
    """Each image goes through one of 25 pairs of operations, each of the two applied with its own probability.

    The pairs alone: with the mirroring, crops and cutout that the source trains with besides, it is
    `+flip_crop+auto_augment+cutout`.
    Source: Cubuk et al. 2019, AutoAugment, appendix A, table 7; ranges as in torchvision's AutoAugment, shears about
    the top left corner.
    """

    num_draws: ClassVar[int] = 5

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        strength = Strength(0.3, 150 / 331 * image_px, 30, 0.9, 4)
        table_S23 = u_BK.new_tensor(
            [[(OPERATIONS.index(name), *rest) for name, *rest in pair] for pair in SUB_POLICIES]
        )
        name_B2, probability_B2, level_B2 = table_S23[(u_BK[:, 0] * len(SUB_POLICIES)).long()].unbind(-1)
        operation_B2 = torch.where(u_BK[:, 1:3] < probability_B2, name_B2.long(), OPERATIONS.index("identity"))
        magnitude_B2 = strength.magnitudes(operation_B2, level_B2 / 9, u_BK[:, 3:5] < 0.5)
        return {"operation": operation_B2, "magnitude": magnitude_B2}
