"""The arms of a study: every variant under every pose, checked before anything trains, and the runs that they make."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any

import torch

from baselines.policies import Policy, asks_for_poses
from experiments.images.poses import POSES, parse_pose, posed_px, spell_pose
from experiments.images.tasks import Task
from experiments.networks.catalogue import first_sentence
from experiments.networks.models import MODELS
from experiments.networks.network import Network
from experiments.networks.variants import (
    Variant,
    assemble,
    build_model,
    build_policy,
    hyperparameters,
    parse_variant,
)
from experiments.runs.images import is_posed_anew
from experiments.runs.optimiser import filters_of
from experiments.study.search import nearest_allowed
from experiments.study.search_space import Parameter
from experiments.study.study import Study
from ledger.config import Optim, Protocol, RunConfig, Stage
from ledger.errors import UserError, nearest
from ledger.options import Value, fields, plain_values, split_name, typed


@dataclass(frozen=True)
class ArmPlan:
    """A variant under a pose.

    defaults: the setting that its first trial tries, by dotted name. plain: of what is tuned, values with which it is
    almost the variant without them.
    """

    pose: str
    variant: str
    baseline: str
    parameters: tuple[Parameter, ...]
    defaults: Mapping[str, Value]
    plain: Mapping[str, Value] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.pose}/{self.variant}"

    @property
    def policy(self) -> Policy:
        """With its default hyper-parameters."""
        return build_policy(parse_variant(self.variant), {})

    @cached_property
    def said(self) -> dict[str, str]:
        """What the files of its model and its pose say of them, as study.json has it."""
        variant = parse_variant(self.variant)
        words = {"words": MODELS[variant.model], "pose_words": POSES[split_name(self.pose, "pose")[0]]}
        return {"role": build_model(variant, {}).role} | {
            # As a part of a sentence; not the letters of an abbreviation
            name: re.sub("^[A-Z](?=[a-z ])", lambda letter: letter[0].lower(), first_sentence(owner).removesuffix("."))
            for name, owner in words.items()
        }

    @property
    def posed_anew(self) -> bool:
        """Whether its training images are put under another draw of the pose whenever they are shown."""
        return is_posed_anew(self.pose, self.policy)


def check_arms(study: Study) -> tuple[ArmPlan, ...]:
    """All arms. Raises UserError for what is wrong with one, and for two spellings of one pose or variant."""
    arms = tuple(check_arm(study, pose, index) for pose in study.poses for index in range(len(study.variants)))
    check_different(study, arms)
    return arms


def check_arm(study: Study, pose: str, index: int) -> ArmPlan:
    """The arm of a variant under a pose. Raises UserError for names that nobody knows."""
    entry = study.variants[index]
    try:
        pose = spell_pose(pose)
        variant = parse_variant(entry.variant)
        baseline = parse_variant(entry.baseline)
        build_policy(variant, {})
        build_model(variant, {})
    except UserError as error:
        raise UserError(f"{study.file}: {error}") from None
    defaults: dict[str, Value] = {f"optim.{name}": value for name, value in fields(Optim).items()}
    defaults |= hyperparameters(variant)
    fixed = {f"model.{key}" for key in variant.model_options} | {f"policy.{key}" for key in variant.policy_options}
    parameters = [each for each in study.search.parameters(entry.variant) if each.name not in fixed]
    for parameter in parameters:
        if parameter.name not in defaults:
            hint = nearest(parameter.name, defaults)
            raise UserError(f"{study.file}: search: {variant} has no {parameter.name!r}; {hint}")
    try:
        parameters = [with_typed_choices(variant, each, defaults[each.name]) for each in parameters]
        check_values(variant, parameters, defaults)
    except UserError as error:
        raise UserError(f"{study.file}: search: {error}") from None
    plain = {f"model.{name}": value for name, value in plain_values(variant.owners()["model"]).items()}
    return ArmPlan(pose, str(variant), str(baseline), tuple(parameters), defaults, plain)


def check_different(study: Study, arms: Sequence[ArmPlan]) -> None:
    """Raises UserError for two spellings of one pose or variant, whose runs would be the same."""
    seen: set[str] = set()
    for arm in arms:
        if arm.name in seen:
            raise UserError(f"{study.file}: {arm.variant!r} under pose {arm.pose!r} is there twice, spelt differently")
        seen.add(arm.name)


def with_typed_choices(variant: Variant, parameter: Parameter, default: Value) -> Parameter:
    """The parameter whose choices are of the type that its hyper-parameter has: 1 and 1.0 make different keys.

    Raises UserError for values that are not of that type.
    """
    part, _, name = parameter.name.rpartition(".")
    owners: dict[str, Callable[..., Any]] = {"optim": Optim, **variant.owners()}
    if parameter.kind == "float" and isinstance(default, int):  # true and false are 1 and 0
        raise UserError(f"{parameter.name}: takes whole numbers only; write int_uniform or values")
    try:
        values = tuple(typed(owners[part], part, name, each) for each in ends_of(parameter))
    except UserError as error:
        raise UserError(f"{part}.{error}") from None
    return replace(parameter, choices=values) if parameter.choices else parameter


def ends_of(parameter: Parameter) -> tuple[Value, ...]:
    """All choices, or both bounds."""
    return parameter.choices or (parameter.low, parameter.high)


def first_setting(part: str, parameters: Sequence[Parameter], defaults: Mapping[str, Value]) -> dict[str, Value]:
    """What the first trial has of a part's hyper-parameters that are searched, by their own names."""
    return {
        each.name.removeprefix(f"{part}."): nearest_allowed(each, defaults[each.name])
        for each in parameters
        if each.name.startswith(f"{part}.")
    }


def check_values(variant: Variant, parameters: Sequence[Parameter], defaults: Mapping[str, Value]) -> None:
    """Raises UserError where the model or the policy refuses the bounds or a choice of a hyper-parameter.

    The others are as the first trial has them.
    """
    for parameter in parameters:
        part, _, name = parameter.name.partition(".")
        first = first_setting(part, parameters, defaults)
        for value in ends_of(parameter):
            if part == "model":
                build_model(variant, first | {name: value})
            elif part == "policy":
                build_policy(variant, first | {name: value})


def check_networks(study: Study, arm: ArmPlan, protocol: Protocol, task: Task) -> None:
    """Raises UserError if the arm's network cannot be built, or not with values that its search may choose.

    Of those, each and each two of them are tried; the rest stay at what the first trial has.
    """
    first = first_setting("model", arm.parameters, arm.defaults)
    image_px, num_classes = posed_px(arm.pose, protocol.image_px), len(task.classes)
    network_of(arm.variant, protocol, image_px, num_classes, first, task.num_channels)
    ends = {
        each.name.removeprefix("model."): ends_of(each) for each in arm.parameters if each.name.startswith("model.")
    }
    for names in combinations(ends, min(2, len(ends))):
        for values in product(*(ends[name] for name in names)):
            setting = first | dict(zip(names, values, strict=True))
            try:
                if setting != first:
                    network_of(arm.variant, protocol, image_px, num_classes, setting, task.num_channels)
            except UserError as error:
                raise UserError(f"{study.file}: search: {error}") from None


def network_of(
    variant_name: str,
    protocol: Protocol,
    image_px: int,
    num_classes: int,
    values: Mapping[str, Value],
    num_channels: int = 3,
) -> Network:
    """The variant's network without numbers, to see whether it can be built and trained. Raises UserError if not.

    image_px: of the posed images. values: the model's hyper-parameters.
    """
    run = RunConfig(variant=variant_name, protocol=replace(protocol, image_px=image_px), model=dict(values))
    with torch.device("meta"):
        network = assemble(run, num_classes, torch.zeros(num_channels), torch.ones(num_channels))
    if protocol.optimiser == "muon" and not filters_of(network.backbone):
        raise UserError(
            f"protocol.optimiser: muon trains filters of convolutions, and the backbone of {variant_name} has none; "
            "write optimiser: sgd"
        )
    return network


def make_run_config(
    arm: ArmPlan,
    protocol: Protocol,
    setting: Mapping[str, Value],
    *,
    stage: Stage,
    seed: int,
    prune_below: tuple[float, ...],
) -> RunConfig:
    """The run of an arm with one setting of its hyper-parameters, by dotted name."""
    parts: dict[str, dict[str, Any]] = {"optim": {}, "model": {}, "policy": {}}
    for name, value in setting.items():
        part, _, field = name.partition(".")
        parts[part][field] = value
    return RunConfig(
        variant=arm.variant,
        seed=seed,
        stage=stage,
        pose=arm.pose,
        protocol=protocol,
        optim=Optim(**parts["optim"]),
        model=parts["model"],
        policy=parts["policy"],
        prune_below=prune_below,
    )


def posed_in_vain(arms: Sequence[ArmPlan]) -> str:
    """Which arms ask for fresh draws of a pose that has none, or that is drawn anew without being asked; else ""."""
    poses = {arm.pose: parse_pose(arm.pose) for arm in arms}
    fixed = {pose for pose, drawn in poses.items() if drawn.num_draws and not drawn.fresh}
    names = [arm.name for arm in arms if arm.pose not in fixed and asks_for_poses(arm.policy)]
    return f"{', '.join(names)}: `posed` does nothing there; it is for poses that are drawn once." if names else ""
