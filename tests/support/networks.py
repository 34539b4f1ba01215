"""Networks that contracts are checked on, batches for them, and their training for a moment."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from baselines.backbones import BACKBONES
from baselines.policies import Policy
from experiments.images.poses import parse_pose
from experiments.networks.model import Model
from experiments.networks.models import MODELS
from experiments.networks.network import Batch, Network, count_parameters
from experiments.networks.variants import assemble, build_model, build_policy, parse_variant
from experiments.runs.images import DeviceImages
from experiments.runs.training import Row, train
from ledger.config import Optim, Protocol, RunConfig
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
    "stn_affine:localisation=backbone",
    "stn_affine:start_sd=0.02",
    "stn_affine:blur_px=2",
    "stn_affine:prior=0.3",
    "stn_affine:supervision=1",
    "stn_rotation:consistency=1:prior=0.3",
    "stn_rotation:supervision=1:head=classes",
    "stn_similarity:steps=2:head=classes:bins=24",
    "canonical:choice=soft:scorer_px=16",
    "canonical:num_turns=5:max_deg=60:choice=latent",
    "canonical:num_turns=8:choice=latent:copies=2:tested=1",
    "canonical:prior=0.1:contrast=0.1",
    "canonical:num_turns=4:contrast=0.1:scorer=backbone",
    "canonical:supervision=1",
    "canonical:num_turns=2:scorer=lenet:num_scales=3:num_shifts=3",
    "oracle_unwarp:noise_deg=10:wrong=0.2",
    "realign:rounds=3:bootstrap=true:bins=12:blur_px=0:localisation=lenet",
    "stn_probabilistic:family=rotation:samples=3:tested=0",
]
"""What may be chosen of networks that transform, each away from its default."""

ON_BACKBONES = [f"{model}@{backbone}" for backbone in BACKBONES if backbone != "cnn" for model in ("cnn", "stn_affine")]

NETWORKS = [*MODELS, *ON_BACKBONES, *OPTIONS]
"""Every model on the default backbone, every backbone alone and with a transformer; their product says no more."""

RIVALS = [
    "ti_cnn",
    "ti_cnn:layers=first:per_sample=true@lenet",
    "ti_pooling:num_turns=4",
    "ti_pooling:num_turns=3@lenet",
    "deformable",
    "deformable@lenet",
    "polar",
    "polar:map=linear:anti_alias=true@lenet",
    "polar:origin=learned",
    "cnn_tta:num_turns=3:mirrored=true",
    "cnn_tta@lenet",
    "augerino:family=turns:copies=2",
]
"""Rivals of the spatial transformer, with options of their own."""

TURNING = [
    "cnn_its",
    "cnn_its:num_turns=5:max_deg=60:confidence=curvature@lenet",
    "amr",
    "amr:num_angles=8:localisation=lenet",
    "amr:localisation=backbone@lenet",
    "gid",
    "gid:weight=centroid@lenet",
]
"""Rivals that turn images, and are not taught by the classifier how."""

MEAN_C, STD_C = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])


def model_of(name: str) -> Model:
    return build_model(parse_variant(name), {})


def policy_of(name: str) -> Policy:
    return build_policy(parse_variant(name), {})


def build(
    name: str,
    seed: int = 0,
    num_classes: int = 10,
    image_px: int = 32,
    values: dict[str, Value] | None = None,
    num_channels: int = 3,
) -> Network:
    run = RunConfig(variant=name, seed=seed, protocol=Protocol(image_px=image_px), model=values or {})
    return assemble(run, num_classes, MEAN_C[:num_channels], STD_C[:num_channels])


@lru_cache
def built(name: str, seed: int = 0) -> Network:
    """Shared by the tests; only to look at."""
    return build(name, seed).eval()


def some_batch(name: str, num: int, image_px: int = 32, num_channels: int = 3) -> Batch:
    """Random pixels in random poses."""
    raw_BCHW = torch.rand(num, num_channels, image_px, image_px).contiguous(memory_format=torch.channels_last)
    poses = parse_pose("RTS").draw(torch.rand(num, 4), image_px)
    return Batch(raw_BCHW, poses, torch.rand(num, model_of(name).num_draws), 0.2)


def some_images(num: int = 40, seed: int = 0) -> DeviceImages:
    """Random pixels of ten classes."""
    generator = torch.Generator().manual_seed(seed)
    pixels_NHWC = torch.randint(0, 256, (num, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels_NHWC, torch.arange(num) % 10)


def easy_images(num: int, device: torch.device | str = "cpu") -> DeviceImages:
    """Noise over ten patterns of coloured squares."""
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(num) % 10
    squares_K44C = torch.rand(10, 4, 4, 3, generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    pixels_NHWC = 0.6 * squares_K44C[labels_N] + 0.4 * torch.rand(num, 32, 32, 3, generator=generator)
    return DeviceImages((pixels_NHWC * 255).to(torch.uint8).to(device), labels_N.to(device))


def train_on(
    images: DeviceImages,
    name: str,
    protocol: Protocol,
    *,
    network: Network | None = None,
    policy: Policy | None = None,
    val_images: DeviceImages | None = None,
    report: Callable[[Row], None] = lambda row: None,
    seed: int = 0,
    lr: float = 0.02,
    model: dict[str, Value] | None = None,
    prune_below: tuple[float, ...] = (),
) -> tuple[str, Network, list[Row]]:
    """Status, trained network and history of a small run."""
    optim, rows = Optim(lr=lr), list[Row]()
    run = RunConfig(variant=name, seed=seed, protocol=protocol, optim=optim, model=model or {}, prune_below=prune_below)
    network = network or build(name, seed, values=model).to(memory_format=torch.channels_last)

    def keep(row: Row) -> None:
        rows.append(row)
        report(row)

    status = train(network, policy or policy_of(name), images, val_images, run, keep)
    return status, network, rows


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    assert list(one) == list(other)
    return all(torch.equal(one[name], other[name]) for name in one)


def num_parameters(name: str) -> int:
    with torch.device("meta"):
        return count_parameters(build(name))


def at(x_CHW: np.ndarray, row: float, column: float) -> np.ndarray:
    """The map between its pixels, bilinear, zero outside."""
    value = np.zeros(len(x_CHW))
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < x_CHW.shape[1] and 0 <= c < x_CHW.shape[2]:
                value += (1 - abs(row - r)) * (1 - abs(column - c)) * x_CHW[:, r, c]
    return value
