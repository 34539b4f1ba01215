"""What torchvision and kornia offer in place of a policy: the same kind of transform on a whole batch.

torchvision's transforms draw once for the whole batch, kornia's and this program's for each image; AutoAugment and its
kin draw once for the batch in both libraries.

Legend: B images, C channels, H rows, W columns.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

Transform = Callable[[Tensor], Any]
"""Takes images (B, C, H, W) in [0, 1]."""

GIVEN_MAPS = "given affine maps"
"""No policy: resampling alone, each image under a map of its own where the library can."""

BILINEAR = v2.InterpolationMode.BILINEAR
QUARTERS = (0, 90, 180, 270)
"""Turns in degrees."""


def turns(num: int, device: torch.device) -> Tensor:
    """As many maps, (B, 2, 3), between a turn of -1 rad and one of 1 rad."""
    angle_rad_B = torch.linspace(-1, 1, num, device=device)
    cos_B, sin_B, zero_B = angle_rad_B.cos(), angle_rad_B.sin(), torch.zeros_like(angle_rad_B)
    return torch.stack([cos_B, -sin_B, zero_B, sin_B, cos_B, zero_B], dim=1).view(-1, 2, 3)


def torchvision_transforms() -> dict[str, Transform]:
    """By policy; ranges are the policies' defaults. For images of 32 px."""

    def affine(degrees: float, **ranges: Any) -> Transform:
        return v2.RandomAffine(degrees, interpolation=BILINEAR, **ranges)

    def given(x_BCHW: Tensor) -> Tensor:
        return functional.affine(
            x_BCHW, angle=10, translate=[1, 2], scale=1.1, shear=[5.0, 0.0], interpolation=BILINEAR
        )

    return {
        GIVEN_MAPS: given,
        "flip_crop": v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=2, padding_mode="reflect")]),
        "d4": v2.Compose([v2.RandomHorizontalFlip(), v2.RandomChoice([v2.RandomRotation((d, d)) for d in QUARTERS])]),
        "rotate": v2.RandomRotation(15, interpolation=BILINEAR),
        "translate": affine(0, translate=(0.125, 0.125)),
        "scale": affine(0, scale=(1 / 1.3, 1.3)),
        "affine": affine(15, translate=(0.1, 0.1), scale=(1 / 1.2, 1.2), shear=10),
        "perspective": v2.RandomPerspective(0.5, p=1),
        "elastic": v2.ElasticTransform(alpha=50.0, sigma=5.0),
        "cutout": v2.RandomErasing(p=1, scale=(0.25, 0.25), ratio=(1.0, 1.0), value=0.5),
        "auto_augment": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, interpolation=BILINEAR),
        "rand_augment": v2.RandAugment(interpolation=BILINEAR),
        "trivial_augment": v2.TrivialAugmentWide(interpolation=BILINEAR),
    }


def kornia_transforms() -> dict[str, Transform]:
    """By policy, as above; empty where kornia is not installed."""
    if importlib.util.find_spec("kornia") is None:
        return {}
    single = importlib.import_module("kornia.augmentation")
    several = importlib.import_module("kornia.augmentation.auto")
    geometry = importlib.import_module("kornia.geometry.transform")

    def given(x_BCHW: Tensor) -> Any:
        map_B23 = turns(len(x_BCHW), x_BCHW.device)
        return geometry.warp_affine(x_BCHW, map_B23, x_BCHW.shape[2:], align_corners=False)

    return {
        GIVEN_MAPS: given,
        "flip_crop": torch.nn.Sequential(
            single.RandomHorizontalFlip(), single.RandomCrop((32, 32), padding=2, padding_mode="reflect")
        ),
        "rotate": single.RandomRotation(15.0, p=1.0),
        "translate": single.RandomAffine(0.0, translate=(0.125, 0.125), p=1.0),
        "scale": single.RandomAffine(0.0, scale=(1 / 1.3, 1.3), p=1.0),
        "affine": single.RandomAffine(15.0, translate=(0.1, 0.1), scale=(1 / 1.2, 1.2), shear=10.0, p=1.0),
        "perspective": single.RandomPerspective(0.5, p=1.0),
        # Its kernel has to be named: six standard deviations of the blur.
        "elastic": single.RandomElasticTransform((31, 31), (5.0, 5.0), (50 / 32, 50 / 32), p=1.0),
        "cutout": single.RandomErasing((0.25, 0.25), (1.0, 1.0), value=0.5, p=1.0),
        "auto_augment": several.AutoAugment("cifar10"),
        "rand_augment": several.RandAugment(2, 9),
        "trivial_augment": several.TrivialAugment(),
    }
