"""Networks, images and sampling in loops that the tests of the rivals share."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from experiments.networks.network import Batch, Network
from experiments.networks.variants import build_model_recipe, build_network, parse_variant


def build(name: str, image_px: int = 32) -> Network:
    variant = parse_variant(name)
    return build_network(
        variant,
        build_model_recipe(variant, {}),
        num_classes=5,
        image_px=image_px,
        mean_C=torch.tensor([0.4, 0.5, 0.6]),
        std_C=torch.tensor([0.2, 0.25, 0.3]),
        seed=3,
    )


def build_on_meta(name: str, image_px: int = 32) -> Network:
    """As plans are checked."""
    with torch.device("meta"):
        return build(name, image_px)


def images(num: int, image_px: int = 32) -> Tensor:
    return torch.rand(num, 3, image_px, image_px).contiguous(memory_format=torch.channels_last)


def batch_of(name: str, num: int, image_px: int = 32) -> Batch:
    num_draws = build_model_recipe(parse_variant(name), {}).num_draws
    return replace(Batch.of(images(num, image_px)), u_BK=torch.rand(num, num_draws))


def at(x_CHW: np.ndarray, row: float, column: float) -> np.ndarray:
    """The map between its pixels."""
    value = np.zeros(len(x_CHW))
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < x_CHW.shape[1] and 0 <= c < x_CHW.shape[2]:
                value += (1 - abs(row - r)) * (1 - abs(column - c)) * x_CHW[:, r, c]
    return value
