"""Variants: from a name like `stn_affine:padding=border@lenet+flip_crop+affine:max_deg=30` to a network and a policy.

Legend: C channels.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from baselines.backbones import BACKBONES, Backbone, BuildBackbone
from baselines.backbones.timm_network import TimmNetwork, colours
from baselines.composition import Composition, own_values
from baselines.policies import POLICIES, Policy, asks_for_poses
from baselines.registry import Registry
from experiments.images.draws import seed_of
from experiments.images.poses import posed_px
from experiments.networks.model import Model
from experiments.networks.models import MODELS
from experiments.networks.network import Network, Site
from experiments.networks.weights import check_network, find_weights, name_weights
from ledger.config import RunConfig
from ledger.errors import UserError, nearest
from ledger.options import Value, fields, named_only, option_text, spell, split_name, typed
from ledger.roles import ROLES

DEFAULT_BACKBONE = "cnn"
REGISTRIES: Mapping[str, Registry[Any]] = {"model": MODELS, "backbone": BACKBONES, "policy": POLICIES}
LIBRARIES: Mapping[str, type[TimmNetwork]] = {"timm": TimmNetwork}
"""Of backbones that others have written: LIBRARY:NETWORK is the name of one."""


@dataclass(frozen=True)
class Variant:
    """The parts of a variant's name, MODEL[@BACKBONE][+POLICY[+POLICY...]], each with options: NAME:key=value.

    policy: the names of all policies in the order in which they are applied, such as `flip_crop+affine`; or `none`.
    model_options, policy_options: hyper-parameters that the name fixes; of several policies as POLICY.NAME.
    width: of the backbone, its only option. backbone_options: of a library's, such as `timm:resnet18`, in place of it.
    """

    model: str
    backbone: str
    policy: str
    model_options: Mapping[str, Value] = field(default_factory=dict)
    policy_options: Mapping[str, Value] = field(default_factory=dict)
    width: float = 1.0
    backbone_options: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        """The one spelling of the variant: what is at its default is left out."""
        width = "" if self.width == 1 else f":width={option_text(self.width)}"
        backbone = "" if self.backbone == DEFAULT_BACKBONE and not width else f"@{self.backbone}{width}"
        if self.library:
            backbone = f"@{spell(self.backbone, self.backbone_options, LIBRARIES[self.library])}"
        policies = "".join(
            f"+{spell(name, self.options_of(name), POLICIES[name])}" for name in self.policies if name != "none"
        )
        return f"{spell(self.model, self.model_options, MODELS[self.model])}{backbone}{policies}"

    @property
    def library(self) -> str:
        """Of its backbone; "" for one of this project."""
        return library if (library := self.backbone.partition(":")[0]) in LIBRARIES else ""

    @property
    def policies(self) -> list[str]:
        return self.policy.split("+")

    def options_of(self, policy: str) -> Mapping[str, Value]:
        """What the name fixes of one of its policies."""
        return self.policy_options if self.policy == policy else own_values(policy, self.policy_options)

    def owners(self) -> dict[str, Callable[..., Any]]:
        """What has hyper-parameters, by what their dotted names begin with: `model`; `policy` or, of several policies,
        `policy.POLICY`."""
        several = len(self.policies) > 1
        policies = {f"policy.{name}" if several else "policy": POLICIES[name] for name in self.policies}
        return {"model": MODELS[self.model], **policies}


def parse_variant(name: str) -> Variant:
    """Raises UserError that names the part or the option that does not exist."""
    head, *policy_texts = name.split("+")
    model_text, at, backbone_text = head.partition("@")
    for known in LIBRARIES:
        if backbone_text == known or backbone_text.startswith(f"{known}:"):
            base = parse_variant("+".join((model_text, *policy_texts)))
            return _of_library(name, base, known, backbone_text[len(known) + 1 :])
        if model_text.startswith(f"{known}:"):
            raise UserError(f"variant: {name!r}: {known} has backbones: write cnn@{model_text}")
    texts = [("model", model_text), ("backbone", backbone_text if at else DEFAULT_BACKBONE)]
    texts += [("policy", text) for text in policy_texts or ["none"]]
    parts = [(part, *split_name(text, "variant")) for part, text in texts]
    for part, known_as, _ in parts:
        if known_as not in REGISTRIES[part]:
            raise UserError(f"variant: {name!r} has the unknown {part} {known_as!r}; {_hint(known_as, part)}")
    (_, model, model_texts), (_, backbone, backbone_texts), *policies = parts
    try:
        _check_order([policy for _, policy, _ in policies])
        model_options = {key: typed(MODELS[model], model, key, text) for key, text in model_texts.items()}
        policy_options = {
            f"{policy}.{key}" if len(policies) > 1 else key: typed(POLICIES[policy], policy, key, text)
            for _, policy, options in policies
            for key, text in options.items()
        }
        width = _width(backbone, backbone_texts)
    except UserError as error:
        raise UserError(f"variant: {name!r}: {error}") from None
    return Variant(model, backbone, "+".join(policy for _, policy, _ in policies), model_options, policy_options, width)


def _of_library(name: str, base: Variant, library: str, network_text: str) -> Variant:
    """The variant of this name: the base with a library's network, and options, as its backbone."""
    owner = LIBRARIES[library]
    try:
        network, texts = split_name(network_text, "backbone")
        check_network(library, network)
        options = {key: typed(owner, library, key, text) for key, text in texts.items()}
        options["weights"] = name_weights(network, str(options.get("weights", "none")))
        owner(**options)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f"variant: {name!r}: {error}") from None
    return replace(base, backbone=f"{library}:{network}", backbone_options=options)


def _check_order(policies: list[str]) -> None:
    """Raises UserError for policies that do not go together, or not in this order."""
    for place, policy in enumerate(policies):
        if policy in policies[:place]:
            raise UserError(f"has the policy {policy!r} twice")
        if policy == "none" and len(policies) > 1:
            raise UserError("'none' does not go with other policies; leave it out")
        if asks_for_poses(POLICIES[policy]) and place:
            raise UserError(
                f"{policy!r} poses an image before any other policy changes it; name it first, as cnn+{policy}+..."
            )


def _hint(name: str, part: str) -> str:
    """Where the name belongs, if it is one of another part; else the nearest known one."""
    for other, prefix in (("model", ""), ("backbone", "cnn@"), ("policy", "cnn+")):
        if name in REGISTRIES[other]:
            return f"it is a {other}: write {prefix}{name}"
    return nearest(name, REGISTRIES[part])


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
    """What a setting of the variant holds, with its defaults, by dotted names that begin as its owners' do.

    Options that the variant's one spelling says are left out, and those that only a name sets. One that a name fixes
    at its default stays, since the spelling leaves it out: however a variant was written, its runs have the same
    configuration, and so the same keys.
    """
    fixed = {f"model.{key}": value for key, value in variant.model_options.items()}
    fixed |= {f"policy.{key}": value for key, value in variant.policy_options.items()}
    return {
        f"{group}.{name}": default
        for group, owner in variant.owners().items()
        for name, default in fields(owner).items()
        if fixed.get(f"{group}.{name}", default) == default and name not in named_only(owner)
    }


def _configured(
    part: str, name: str, fixed: Mapping[str, Value], values: Mapping[str, Value], registry: Registry[Any]
) -> Any:
    try:
        given = {key: typed(registry[name], name, key, value) for key, value in values.items()}
        for key in given:
            if key in named_only(registry[name]):
                raise UserError(f"{key}: only a variant's name sets it: {name}:{key}={option_text(given[key])}")
            if key in fixed and given[key] != fixed[key]:
                raise UserError(f"{key}: {given[key]} contradicts the variant's name, which has {fixed[key]}")
        return registry[name](**{**fixed, **given})
    except (UserError, ValueError) as error:
        raise UserError(f"{part}.{error}") from None


def build_model(variant: Variant, values: Mapping[str, Value]) -> Model:
    """The variant's model with these hyper-parameters. Raises UserError for one that it does not have or allow."""
    model: Model = _configured("model", variant.model, variant.model_options, values, MODELS)
    if (role := getattr(model, "role", None)) not in ROLES:
        module = MODELS[variant.model].__module__
        raise UserError(f"{module}: role: {role!r} is not one of {', '.join(ROLES)} (ledger/roles.py)")
    return model


def build_policy(variant: Variant, values: Mapping[str, Value]) -> Policy:
    """The variant's policy with these hyper-parameters. Raises UserError for one that it does not have or allow."""

    def build(group: str, name: str, values: Mapping[str, Value]) -> Policy:
        policy: Policy = _configured(group, name, variant.options_of(name), values, POLICIES)
        return policy

    if len(variant.policies) == 1:
        return build("policy", variant.policy, values)
    known = [f"{name}.{key}" for name in variant.policies for key in fields(POLICIES[name])]
    for key in values:
        if key not in known:
            raise UserError(f"policy.{key}: {variant.policy} has no such hyper-parameter; {nearest(key, known)}")
    return Composition({name: build(f"policy.{name}", name, own_values(name, values)) for name in variant.policies})


def check_start(names: Iterable[str]) -> None:
    """Raises UserError if this machine lacks the library or the weights that one of these variants starts from."""
    for name in names:
        if (weights := str(parse_variant(name).backbone_options.get("weights", "none"))) != "none":
            find_weights(weights)


def assemble(run: RunConfig, num_classes: int, mean_C: Tensor, std_C: Tensor) -> Network:
    """The run's network with its start weights, on the CPU.

    mean_C, std_C: of the training images, pixels in [0, 1].
    Each part has its own random stream, so a backbone starts the same with and without a transformer before it.
    Raises UserError if the images are too small for a part, or parts cannot go together.
    """
    variant, image_px = parse_variant(run.variant), posed_px(run.pose, run.protocol.image_px)
    model = build_model(variant, run.model)
    build: BuildBackbone
    if not variant.library:
        build = BACKBONES[variant.backbone]
    else:
        network_name = variant.backbone.partition(":")[2]
        owner = LIBRARIES[variant.library](**variant.backbone_options)  # type: ignore[arg-type]
        if owner.weights != "none":
            owner = replace(owner, weights=str(find_weights(owner.weights)))
            mean_C, std_C = colours(network_name, len(mean_C))
        build = partial(owner.build, network_name)

    def build_backbone(factor: float, image_px: int, in_channels: int, num_outputs: int) -> Backbone:
        width = factor * variant.width * run.protocol.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(run.seed, "start of the backbone"))
            return build(num_classes=num_outputs, image_px=image_px, in_channels=in_channels, width=width)

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(run.seed, "start of the model"))
            network = model.build(Site(build_backbone, image_px, num_classes, mean_C, std_C))
    except ValueError as error:
        raise UserError(f"{variant} on images of {image_px} px: {error}") from None
    network.num_draws = model.num_draws
    return network
