"""Variants: from a name like `stn_affine@lenet+affine` to a network that trains and a policy that augments.

Legend: B images, C channels, H rows, W columns.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES, Policy
from baselines.registry import Registry
from experiments.draws import seed_of
from experiments.errors import UserError, nearest
from experiments.models import MODELS, Model

DEFAULT_BACKBONE = "cnn"


@dataclass(frozen=True)
class Variant:
    """The parts of a variant's name, MODEL[@BACKBONE][+POLICY]."""

    model: str
    backbone: str
    policy: str

    def __str__(self) -> str:
        backbone = "" if self.backbone == DEFAULT_BACKBONE else f"@{self.backbone}"
        policy = "" if self.policy == "none" else f"+{self.policy}"
        return f"{self.model}{backbone}{policy}"


def parse_variant(name: str) -> Variant:
    """Raises UserError that names the part nobody knows."""
    head, plus, policy = name.partition("+")
    model, at, backbone = head.partition("@")
    variant = Variant(model, backbone if at else DEFAULT_BACKBONE, policy if plus else "none")
    registries: dict[str, Registry[Any]] = {"model": MODELS, "backbone": BACKBONES, "policy": POLICIES}
    for part, registry in registries.items():
        value = getattr(variant, part)
        if value not in registry:
            raise UserError(f"variant: {name!r} has the unknown {part} {value!r}; {nearest(value, registry)}")
    return variant


def hyperparameters(variant: Variant) -> dict[str, float]:
    """The variant's own hyper-parameters and their defaults: `model.<name>` and `policy.<name>`."""
    return {
        f"{part}.{field.name}": float(field.default)  # type: ignore[arg-type]
        for part, registered in (("model", MODELS[variant.model]), ("policy", POLICIES[variant.policy]))
        for field in dataclasses.fields(registered)  # type: ignore[arg-type]
    }


def _configured(part: str, variant: Variant, registered: Callable[..., Any], values: Mapping[str, float]) -> Any:
    known = [field.name for field in dataclasses.fields(registered)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            owner = getattr(variant, part)
            raise UserError(f"{part}.{name}: {owner} has no such hyper-parameter; {nearest(name, known)}")
    try:
        return registered(**values)
    except ValueError as error:
        raise UserError(f"{part}.{error}") from None


def build_model_recipe(variant: Variant, values: Mapping[str, float]) -> Model:
    """The variant's model with these hyper-parameters. Raises UserError for one that it does not have or allow."""
    return _configured("model", variant, MODELS[variant.model], values)


def build_policy(variant: Variant, values: Mapping[str, float]) -> Policy:
    """The variant's policy with these hyper-parameters. Raises UserError for one that it does not have or allow."""
    return _configured("policy", variant, POLICIES[variant.policy], values)


class Network(nn.Module):
    """Transformer (if any), normalisation and backbone, from raw pixels to logits.

    parts: as a model's `build` returns them.
    mean_C, std_C: of the training images, pixels in [0, 1].
    """

    def __init__(self, parts: nn.ModuleDict, mean_C: Tensor, std_C: Tensor, num_classes: int) -> None:
        super().__init__()
        self.parts = parts
        self.num_classes = num_classes
        self.gain_1C11: Tensor
        self.offset_1C11: Tensor
        # One fused multiply and add in place of a subtraction and a division of every pixel.
        self.register_buffer("gain_1C11", (1 / std_C).view(1, -1, 1, 1))
        self.register_buffer("offset_1C11", (-mean_C / std_C).view(1, -1, 1, 1))

    @property
    def has_transformer(self) -> bool:
        return "transformer" in self.parts

    def normalise(self, raw_BCHW: Tensor) -> Tensor:
        # Spread over one image first: a CPU is slow at factors that repeat after every C values in memory.
        gain_1CHW, offset_1CHW = (
            factor_1C11.expand(1, *raw_BCHW.shape[1:]).contiguous(memory_format=torch.channels_last)
            for factor_1C11 in (self.gain_1C11, self.offset_1C11)
        )
        return torch.addcmul(offset_1CHW, raw_BCHW, gain_1CHW)

    def look(self, raw_BCHW: Tensor) -> Tensor:
        """What the backbone gets to see before it is normalised: the transformer's output, or the image itself."""
        if not self.has_transformer:
            return raw_BCHW
        # Raw pixels are warped: black stays black outside the image, where normalised ones would turn mean-coloured.
        return self.parts["transformer"](raw_BCHW, self.normalise(raw_BCHW))

    def forward(self, raw_BCHW: Tensor) -> Tensor:
        """Pixels in [0, 1], (B, C, H, W), to logits (B, num_classes)."""
        return self.parts["backbone"](self.normalise(self.look(raw_BCHW)))


def build_network(
    variant: Variant,
    recipe: Model,
    *,
    num_classes: int,
    image_px: int,
    mean_C: Tensor,
    std_C: Tensor,
    seed: int,
) -> Network:
    """The variant's network with its start weights, on the CPU.

    Each part has its own random stream, so a backbone starts the same with and without a transformer before it.
    Raises UserError if the images are too small for a part.
    """

    def backbone(width: float) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "start of the backbone"))
            return BACKBONES[variant.backbone](
                num_classes=num_classes, image_px=image_px, in_channels=len(mean_C), width=width
            )

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "start of the model"))
            parts = recipe.build(backbone, image_px)
    except ValueError as error:
        raise UserError(f"protocol.image_px: {error}") from None
    return Network(parts, mean_C, std_C, num_classes)
