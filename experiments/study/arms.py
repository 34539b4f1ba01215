"""The arms of a study: every variant under every pose, checked before anything trains, and the runs that they make."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any

import torch

from baselines.composition import own_values
from baselines.policies import POLICIES, Policy, asks_for_poses
from experiments.images.poses import POSES, parse_pose, posed_px, spell_pose
from experiments.images.tasks import Task
from experiments.networks.catalogue import in_sentence
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
from experiments.study.search_space import Parameter
from experiments.study.study import Study
from experiments.study.tested_pose import check_learns_no_pose, pose_of_test, spell_test_pose
from ledger.config import Optim, Protocol, RunConfig, Stage
from ledger.errors import UserError, nearest
from ledger.options import Value, fields, named_only, plain_values, split_name, typed


@dataclass(frozen=True)
class ArmPlan:
    """A variant under a pose.

    defaults: its hyper-parameters by dotted name. plain: of what is tuned, values with which it is almost the variant
    without them. test_pose: of the test part, where that has another one.
    """

    pose: str
    variant: str
    baseline: str
    parameters: tuple[Parameter, ...]
    defaults: Mapping[str, Value]
    plain: Mapping[str, Value] = field(default_factory=dict)
    test_pose: str = ""

    @property
    def name(self) -> str:
        return f"{self.pose}/{self.variant}"

    @property
    def policy(self) -> Policy:
        """With its default hyper-parameters."""
        return build_policy(parse_variant(self.variant), {})

    @cached_property
    def said(self) -> dict[str, Any]:
        """What the files of its model, its policies and its pose say of them, as study.json has it."""
        variant = parse_variant(self.variant)
        shown = [in_sentence(POLICIES[name]) for name in variant.policies if name != "none"]
        words = {"words": in_sentence(MODELS[variant.model]), "pose_words": words_of_pose(self.pose)}
        return {"role": build_model(variant, {}).role, **words, **({"policy_words": shown} if shown else {})}

    @property
    def posed_anew(self) -> bool:
        """Whether its training images are put under another draw of the pose whenever they are shown."""
        return is_posed_anew(self.pose, self.policy)

    def first(self, part: str) -> dict[str, Value]:
        """What its first trial has of the hyper-parameters of a part (`model` or `policy`), by their names there."""
        nearest_allowed = {each.name: each.nearest(self.defaults[each.name]) for each in self.parameters}
        return own_values(part, {**self.defaults, **nearest_allowed})

    def ends(self, part: str) -> dict[str, tuple[Value, ...]]:
        """All choices, or both bounds, of each hyper-parameter of a part that is tuned."""
        return own_values(part, {each.name: each.ends for each in self.parameters})

    def extremes(self, part: str, at_once: int) -> Iterator[dict[str, Value]]:
        """Settings of a part in which so many hyper-parameters are at their ends, the rest as in the first trial."""
        first, ends = self.first(part), self.ends(part)
        for names in combinations(ends, min(at_once, len(ends))):
            for values in product(*(ends[name] for name in names)):
                yield first | dict(zip(names, values, strict=True))

    def network(self, protocol: Protocol, task: Task, values: Mapping[str, Value]) -> Network:
        """Its network without numbers. values: the model's hyper-parameters. Raises UserError as network_of does."""
        image_px = posed_px(self.pose, protocol.image_px)
        return network_of(self.variant, protocol, image_px, len(task.classes), values, task.num_channels)


def words_of_pose(pose: str) -> str:
    return in_sentence(POSES[split_name(pose, "pose")[0]])


def check_arms(study: Study) -> tuple[ArmPlan, ...]:
    """All arms. Raises UserError for what is wrong with one, and for two spellings of one pose or variant."""
    arms: dict[str, ArmPlan] = {}
    for pose, variant in product(study.poses, study.variants):
        arm = check_arm(study, pose, variant)
        if arms.setdefault(arm.name, arm) is not arm:  # the runs of both would be the same
            raise UserError(f"{study.file}: {arm.variant!r} under pose {arm.pose!r} is there twice, spelt differently")
    return tuple(arms.values())


def check_arm(study: Study, pose: str, variant_name: str) -> ArmPlan:
    """The arm of a variant under a pose. Raises UserError for names and values that do not exist."""
    try:
        pose = spell_pose(pose)
        variant = parse_variant(variant_name)
        baseline = parse_variant(study.variants[variant_name])
        build_policy(variant, {})
        model = build_model(variant, {})
        test_pose = spell_test_pose(study.test_pose, pose, study.protocol.image_px)
    except UserError as error:
        raise UserError(f"{study.file}: {error}") from None
    defaults: dict[str, Value] = {f"optim.{name}": value for name, value in fields(Optim).items()}
    defaults |= hyperparameters(variant)
    fixed = {f"model.{key}" for key in variant.model_options} | {f"policy.{key}" for key in variant.policy_options}
    parameters = [each for each in study.search.parameters(variant_name) if each.name not in fixed]
    of_names = {f"{group}.{name}" for group, owner in variant.owners().items() for name in named_only(owner)}
    for parameter in parameters:
        if parameter.name in of_names:
            raise UserError(f"{study.file}: search: {parameter.name}: only a variant's name sets it")
        if parameter.name not in defaults:
            hint = nearest(parameter.name, defaults)
            raise UserError(f"{study.file}: search: {variant} has no {parameter.name!r}; {hint}")
    plain = {f"model.{name}": value for name, value in plain_values(variant.owners()["model"]).items()}
    try:
        typed_parameters = tuple(with_typed_choices(variant, each, defaults[each.name]) for each in parameters)
        arm = ArmPlan(pose, str(variant), str(baseline), typed_parameters, defaults, plain, test_pose)
        models = [build_model(variant, values) for values in arm.extremes("model", 1)]
        for values in arm.extremes("policy", 1):
            build_policy(variant, values)
    except UserError as error:
        raise UserError(f"{study.file}: search: {error}") from None
    if test_pose:
        check_learns_no_pose(study.file, variant, [model, *models])
    return arm


def with_typed_choices(variant: Variant, parameter: Parameter, default: Value) -> Parameter:
    """The parameter with choices of its hyper-parameter's type: 1 and 1.0 make different keys. Raises UserError."""
    if parameter.kind == "float" and isinstance(default, int):  # true and false are 1 and 0
        raise UserError(f"{parameter.name}: takes whole numbers only; write int_uniform or values")
    try:
        values = tuple(typed_value(variant, parameter.name, each) for each in parameter.ends)
    except UserError as error:
        raise UserError(f"{parameter.name.rpartition('.')[0]}.{error}") from None
    return replace(parameter, choices=values) if parameter.choices else parameter


def typed_value(variant: Variant, dotted: str, value: Value) -> Value:
    """The value in the type of the hyper-parameter of that dotted name. Raises UserError for another one."""
    owner, _, name = dotted.rpartition(".")
    return typed({"optim": Optim, **variant.owners()}[owner], owner, name, value)


def check_networks(study: Study, arm: ArmPlan, protocol: Protocol, task: Task) -> None:
    """Raises UserError if the network cannot be built with each value, and each two, that the search may choose."""
    first = arm.first("model")
    arm.network(protocol, task, first)
    for values in arm.extremes("model", 2):
        try:
            if values != first:
                arm.network(protocol, task, values)
        except UserError as error:
            raise UserError(f"{study.file}: search: {error}") from None


def network_of(
    variant_name: str,
    protocol: Protocol,
    image_px: int,
    num_classes: int,
    values: Mapping[str, Value],
    num_channels: int = 3,
    device: str = "meta",
) -> Network:
    """The variant's network as it starts, for images of no mean; without numbers, unless the device has some.

    image_px: of the posed images. values: the model's hyper-parameters.
    Raises UserError if it cannot be built and trained.
    """
    run = RunConfig(variant=variant_name, protocol=replace(protocol, image_px=image_px), model=dict(values))
    with torch.device(device):
        network = assemble(run, num_classes, torch.zeros(num_channels), torch.ones(num_channels))
    if protocol.optimiser == "muon" and not filters_of(network.backbone):
        raise UserError(
            f"protocol.optimiser: muon trains filters of convolutions, and the backbone of {variant_name} has none; "
            "write optimiser: sgd or adamw"
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
    return RunConfig(
        variant=arm.variant,
        seed=seed,
        stage=stage,
        pose=arm.pose,
        test_pose=pose_of_test(arm.test_pose, stage),
        protocol=protocol,
        optim=Optim(**own_values("optim", setting)),  # type: ignore[arg-type]
        model=own_values("model", setting),
        policy=own_values("policy", setting),
        prune_below=prune_below,
    )


def posed_in_vain(arms: Sequence[ArmPlan]) -> str:
    """Which arms ask for fresh draws of a pose that has none, or that is drawn anew without being asked; else ""."""
    poses = {arm.pose: parse_pose(arm.pose) for arm in arms}
    fixed = {pose for pose, drawn in poses.items() if drawn.num_draws and not drawn.fresh}
    names = [arm.name for arm in arms if arm.pose not in fixed and asks_for_poses(arm.policy)]
    return f"{', '.join(names)}: `posed` does nothing there; it is for poses that are drawn once." if names else ""
