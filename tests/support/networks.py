"""Networks that contracts are checked on: everything that is registered, and every factor of a transformer."""

from functools import lru_cache

import torch

from baselines.backbones import BACKBONES
from experiments.images.poses import parse_pose
from experiments.networks.models import MODELS
from experiments.networks.models.cnn_matched import count_parameters
from experiments.networks.network import Batch, Network
from experiments.networks.variants import build_model_recipe, build_network, parse_variant
from ledger.options import Value

OPTIONS = [
    "stn_affine:steps=2",
    "stn_affine:heads=4:size=0.5",
    "stn_affine:place=shared",
    "stn_affine:place=feature:stage=2",
    "stn_affine:gradient=linearised",
    "stn_affine:anti_alias=true",
    "stn_affine:padding=border",
    "stn_affine:padding=reflection",
    "stn_affine:warp=normalised",
    "stn_affine:localisation=deep",
    "stn_affine:localisation=paper",
    "stn_affine:start_sd=0.02",
    "stn_affine:blur_px=2",
    "stn_affine:prior=0.3",
    "stn_affine:supervision=1",
    "stn_rotation:consistency=1:prior=0.3",
    "canonical:choice=soft:scorer_px=16",
    "canonical:num_turns=5:max_deg=60:choice=latent",
    "canonical:num_turns=8:choice=latent:copies=2:tested=1",
    "canonical:contrast=0.1:prior=0.1",
    "canonical:supervision=1",
]
"""The factors of spatial transformers, each away from its default."""

ON_BACKBONES = [f"{model}@{backbone}" for backbone in BACKBONES if backbone != "cnn" for model in ("cnn", "stn_affine")]

NETWORKS = [*MODELS, *ON_BACKBONES, *OPTIONS]
"""Every model on the default backbone, every backbone alone and with a transformer; their product says no more."""


def build(
    name: str,
    seed: int = 0,
    num_classes: int = 10,
    image_px: int = 32,
    values: dict[str, Value] | None = None,
    num_channels: int = 3,
) -> Network:
    variant = parse_variant(name)
    return build_network(
        variant,
        build_model_recipe(variant, values or {}),
        num_classes=num_classes,
        image_px=image_px,
        mean_C=torch.tensor([0.4, 0.5, 0.6])[:num_channels],
        std_C=torch.tensor([0.2, 0.25, 0.3])[:num_channels],
        seed=seed,
    )


@lru_cache
def built(name: str, seed: int = 0) -> Network:
    """Shared by the tests; only to look at."""
    return build(name, seed).eval()


def some_batch(name: str, num: int, image_px: int = 32, num_channels: int = 3) -> Batch:
    """Random pixels in random poses."""
    raw_BCHW = torch.rand(num, num_channels, image_px, image_px).contiguous(memory_format=torch.channels_last)
    num_draws = build_model_recipe(parse_variant(name), {}).num_draws
    return Batch(raw_BCHW, parse_pose("RTS").draw(torch.rand(num, 4), image_px), torch.rand(num, num_draws), 0.2)


def num_parameters(name: str) -> int:
    with torch.device("meta"):
        return count_parameters(build(name))
