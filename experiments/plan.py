"""What a study will do on this machine, worked out and checked before anything trains."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.config import Optim, Protocol, RunConfig, protocol_hash
from experiments.device import resolve
from experiments.errors import UserError, nearest
from experiments.images import fit_to_task
from experiments.poses import check_pose
from experiments.runs import Source
from experiments.search_space import Parameter
from experiments.study import Study
from experiments.tasks import Say, Task, load_task
from experiments.tasks.cifar10 import DownloadError
from experiments.variants import (
    Variant,
    build_model_recipe,
    build_network,
    build_policy,
    hyperparameters,
    parse_variant,
)


@dataclass(frozen=True)
class ArmPlan:
    """A variant under a pose. defaults: the setting that its first trial tries, by dotted name."""

    pose: str
    variant: str
    baseline: str
    parameters: tuple[Parameter, ...]
    defaults: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"{self.pose}/{self.variant}"


@dataclass(frozen=True)
class Plan:
    """A study with the task, the protocol and the arms that it really has on this machine."""

    name: str
    study: Study
    task: Task
    source: Source
    protocol: Protocol
    arms: tuple[ArmPlan, ...]

    @property
    def num_trials(self) -> int:
        return len(self.arms) * self.study.search.trials

    @property
    def num_finals(self) -> int:
        return len(self.arms) * self.study.final_seeds

    @property
    def protocol_hash(self) -> str:
        return protocol_hash(self.protocol)


def slug(label: str) -> str:
    """The label as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:48] or "task"


def make_plan(study: Study, *, label: str, cache: Path, say: Say) -> Plan:
    """Load the task, fit and resolve the protocol, and check every arm.

    label: what to call the task; empty for its own name.
    Where CIFAR-10 cannot be downloaded, `sprites` takes its place, and `say` hears of it.
    Raises UserError for what cannot go together.
    """
    arms = tuple(check_arm(study, pose, index) for pose in study.poses for index in range(len(study.variants)))
    spec = study.task
    protocol = resolve(study.protocol, cache)
    try:
        task = load_task(spec, image_px=protocol.image_px, cache=cache, say=say, label=label)
    except DownloadError as error:
        say(f"{error}")
        say("CIFAR-10 cannot be had here, so this study runs on the built-in task `sprites` instead, and says so.")
        spec, label = "sprites", ""
        task = load_task(spec, image_px=protocol.image_px, cache=cache, say=say, label=label)
    protocol, shrunk = fit_to_task(protocol, task)
    if shrunk:
        say(shrunk)
    plan = Plan(
        name=f"{study.name}-{slug(task.label)}-{study.budget}",
        study=study,
        task=task,
        source=Source(task=spec, label=label, image_px=protocol.image_px, cache=cache),
        protocol=protocol,
        arms=arms,
    )
    for arm in arms:
        network_of(arm.variant, plan.protocol, len(task.classes))
    return plan


def check_arm(study: Study, pose: str, index: int) -> ArmPlan:
    """The arm of a variant under a pose. Raises UserError for names that nobody knows."""
    entry = study.variants[index]
    try:
        check_pose(pose)
        variant = parse_variant(entry.variant)
    except UserError as error:
        raise UserError(f"{study.file}: {error}") from None
    defaults = {f"optim.{field.name}": float(field.default) for field in dataclasses.fields(Optim)}  # type: ignore[arg-type]
    defaults |= hyperparameters(variant)
    parameters = study.search.parameters(entry.variant)
    for parameter in parameters:
        if parameter.name not in defaults:
            hint = nearest(parameter.name, defaults)
            raise UserError(f"{study.file}: search: {entry.variant} has no {parameter.name!r}; {hint}")
        check_values(study, variant, parameter)
    return ArmPlan(pose, entry.variant, entry.baseline, parameters, defaults)


def check_values(study: Study, variant: Variant, parameter: Parameter) -> None:
    """Raises UserError where the model or the policy refuses the bounds or a choice of its hyper-parameter."""
    part, _, name = parameter.name.partition(".")
    build = {"model": build_model_recipe, "policy": build_policy}.get(part)
    for value in parameter.choices or (parameter.low, parameter.high):
        try:
            if build:
                build(variant, {name: value})
        except UserError as error:
            raise UserError(f"{study.file}: search: {error}") from None


def network_of(variant_name: str, protocol: Protocol, num_classes: int) -> torch.nn.Module:
    """The variant's network without numbers, to see whether it can be built. Raises UserError if not."""
    variant = parse_variant(variant_name)
    with torch.device("meta"):
        return build_network(
            variant,
            build_model_recipe(variant, {}),
            num_classes=num_classes,
            image_px=protocol.image_px,
            mean_C=torch.zeros(3),
            std_C=torch.ones(3),
            seed=0,
        )


def make_run_config(
    arm: ArmPlan,
    protocol: Protocol,
    setting: Mapping[str, float],
    *,
    stage: str,
    seed: int,
    prune_below: tuple[float, ...],
) -> RunConfig:
    """The run of an arm with one setting of its hyper-parameters, by dotted name."""
    parts: dict[str, dict[str, float]] = {"optim": {}, "model": {}, "policy": {}}
    for name, value in setting.items():
        part, _, field = name.partition(".")
        parts[part][field] = value
    return RunConfig(
        variant=arm.variant,
        seed=seed,
        stage=stage,  # type: ignore[arg-type]
        pose=arm.pose,
        protocol=protocol,
        optim=Optim(**parts["optim"]),
        model=parts["model"],
        policy=parts["policy"],
        prune_below=prune_below,
    )
