"""Variants: from a name like `stn_affine:padding=border@lenet+affine:max_deg=30` to a network and a policy.

Legend: C channels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from baselines.backbones import BACKBONES, Backbone
from baselines.policies import POLICIES, Policy
from baselines.registry import Registry
from experiments.draws import seed_of
from experiments.errors import UserError, nearest
from experiments.models import MODELS, Model
from experiments.network import Network, Site
from experiments.options import Value, fields, option_text, spell, split_name, typed

DEFAULT_BACKBONE = "cnn"


@dataclass(frozen=True)
class Variant:
    """The parts of a variant's name, MODEL[@BACKBONE][+POLICY], each with options: NAME:key=value:key=value.

    model_options, policy_options: hyper-parameters that the name fixes. width: of the backbone, its only option.
    """

    model: str
    backbone: str
    policy: str
    model_options: Mapping[str, Value] = field(default_factory=dict)
    policy_options: Mapping[str, Value] = field(default_factory=dict)
    width: float = 1.0

    def __str__(self) -> str:
        """The one spelling of the variant: what is at its default is left out."""
        width = "" if self.width == 1 else f":width={option_text(self.width)}"
        backbone = "" if self.backbone == DEFAULT_BACKBONE and not width else f"@{self.backbone}{width}"
        policy = "" if self.policy == "none" else "+" + spell(self.policy, self.policy_options, POLICIES[self.policy])
        return f"{spell(self.model, self.model_options, MODELS[self.model])}{backbone}{policy}"


def parse_variant(name: str) -> Variant:
    """Raises UserError that names the part or the option nobody knows."""
    head, plus, policy = name.partition("+")
    model, at, backbone = head.partition("@")
    texts = {"model": model, "backbone": backbone if at else DEFAULT_BACKBONE, "policy": policy if plus else "none"}
    registries: dict[str, Registry[Any]] = {"model": MODELS, "backbone": BACKBONES, "policy": POLICIES}
    names, options = {}, {}
    for part, text in texts.items():
        names[part], options[part] = split_name(text, "variant")
        if names[part] not in registries[part]:
            hint = _hint(names[part], part, registries)
            raise UserError(f"variant: {name!r} has the unknown {part} {names[part]!r}; {hint}")
    try:
        model_options, policy_options = (
            {key: typed(registries[part][names[part]], names[part], key, text) for key, text in options[part].items()}
            for part in ("model", "policy")
        )
        width = _width(names["backbone"], options["backbone"])
    except UserError as error:
        raise UserError(f"variant: {name!r}: {error}") from None
    return Variant(names["model"], names["backbone"], names["policy"], model_options, policy_options, width)


def _hint(name: str, part: str, registries: Mapping[str, Registry[Any]]) -> str:
    """Where the name belongs, if it is one of another part; else the nearest known one."""
    places = {"model": f"{name}", "backbone": f"cnn@{name}", "policy": f"cnn+{name}"}
    for other, registry in registries.items():
        if other != part and name in registry:
            return f"it is a {other}: write {places[other]}"
    return nearest(name, registries[part])


def _width(backbone: str, options: Mapping[str, str]) -> float:
    for key in options:
        if key != "width":
            raise UserError(f"{key}: backbone {backbone} has no such option; it has width")
    try:
        width = float(options.get("width", 1.0))
    except ValueError:
        width = 0.0
    if not 0 < width <= 100:
        raise UserError(f"width: {options['width']!r} is not a number above 0 and up to 100")
    return width


def hyperparameters(variant: Variant) -> dict[str, Value]:
    """What a setting of the variant holds, with its defaults: `model.<name>` and `policy.<name>`.

    Options that the variant's one spelling says are left out. One that a name fixes at its default stays, since the
    spelling leaves it out: however a variant was written, its runs have the same configuration, and so the same keys.
    """
    return {
        f"{part}.{name}": default
        for part, owner, fixed in (
            ("model", MODELS[variant.model], variant.model_options),
            ("policy", POLICIES[variant.policy], variant.policy_options),
        )
        for name, default in fields(owner).items()
        if fixed.get(name, default) == default
    }


def _configured(
    part: str, name: str, registered: Callable[..., Any], fixed: Mapping[str, Value], values: Mapping[str, Value]
) -> Any:
    try:
        given = {key: typed(registered, name, key, value) for key, value in values.items()}
        for key in given:
            if key in fixed and given[key] != fixed[key]:
                raise UserError(f"{key}: {given[key]} contradicts the variant's name, which has {fixed[key]}")
        return registered(**{**fixed, **given})
    except (UserError, ValueError) as error:
        raise UserError(f"{part}.{error}") from None


def build_model_recipe(variant: Variant, values: Mapping[str, Value]) -> Model:
    """The variant's model with these hyper-parameters. Raises UserError for one that it does not have or allow."""
    return _configured("model", variant.model, MODELS[variant.model], variant.model_options, values)


def build_policy(variant: Variant, values: Mapping[str, Value]) -> Policy:
    """The variant's policy with these hyper-parameters. Raises UserError for one that it does not have or allow."""
    return _configured("policy", variant.policy, POLICIES[variant.policy], variant.policy_options, values)


def build_network(
    variant: Variant,
    recipe: Model,
    *,
    num_classes: int,
    image_px: int,
    mean_C: Tensor,
    std_C: Tensor,
    seed: int,
    width: float = 1.0,
) -> Network:
    """The variant's network with its start weights, on the CPU. width: the protocol's.

    Each part has its own random stream, so a backbone starts the same with and without a transformer before it.
    Raises UserError if the images are too small for a part, or parts cannot go together.
    """

    def build_backbone(factor: float, image_px: int, in_channels: int) -> Backbone:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "start of the backbone"))
            return BACKBONES[variant.backbone](
                num_classes=num_classes,
                image_px=image_px,
                in_channels=in_channels,
                width=factor * variant.width * width,
            )

    site = Site(build_backbone, image_px, num_classes, mean_C, std_C)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "start of the model"))
            return recipe.build(site)
    except ValueError as error:
        raise UserError(f"{variant} on images of {image_px} px: {error}") from None
