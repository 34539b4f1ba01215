"""What a study will do on this machine, worked out and checked before anything trains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from baselines.policies import Policy, asks_for_poses
from experiments.claims import Claim, Claims
from experiments.config import Optim, Protocol, RunConfig, Stage, protocol_hash
from experiments.device import Call, find_device, here, resolve
from experiments.errors import UserError, nearest
from experiments.images import fit_to_task, is_posed_anew
from experiments.ladder import rung_protocols, tuning_protocol
from experiments.ledger import Ledger
from experiments.network import Network
from experiments.optimiser import filters_of
from experiments.options import Value, fields, plain_values, typed
from experiments.poses import parse_pose, posed_px, spell_pose
from experiments.runs import Source
from experiments.search import nearest_allowed
from experiments.search_space import Parameter
from experiments.settled import num_finished, settled_protocol
from experiments.study import Study
from experiments.tasks import Say, Task, load_task
from experiments.tasks.downloads import DownloadError
from experiments.tasks.overlap import Overlap, find_overlap, overlap_text
from experiments.tuning import num_runs
from experiments.variants import (
    Variant,
    build_model_recipe,
    build_network,
    build_policy,
    hyperparameters,
    parse_variant,
)

MIN_VAL_IMAGES = 50
"""Of a final seed that is tuned by itself: fewer do not tell one setting from another."""


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

    @property
    def posed_anew(self) -> bool:
        """Whether its training images are put under another draw of the pose whenever they are shown."""
        return is_posed_anew(self.pose, self.policy)


class Kind(NamedTuple):
    """Runs of an arm that take equally long: their stage, what they are made under, and how many there are."""

    stage: Stage
    protocol: Protocol
    number: int


@dataclass(frozen=True)
class Plan:
    """A study with the task, the protocol and the arms that it really has on this machine.

    rungs: smaller sizes of training, in rising order.
    overlap: of the task's two parts; None where nobody looked. settled: the protocol that the ledger's study of that
    name has. notes: what keeps the study from being what it may be held for, in sentences.
    """

    name: str
    study: Study
    task: Task
    source: Source
    protocol: Protocol
    arms: tuple[ArmPlan, ...]
    rungs: tuple[Protocol, ...] = ()
    overlap: Overlap | None = None
    settled: Protocol | None = None
    notes: tuple[str, ...] = ()

    @property
    def trials_an_arm(self) -> int:
        """Runs to tune an arm, the repeats of its best settings among them."""
        search = self.study.search
        if search.tuning == "per_seed":
            return search.trials * self.study.final_seeds
        return num_runs(search.trials, repeats=True)

    @property
    def num_trials(self) -> int:
        return len(self.arms) * self.trials_an_arm

    @property
    def num_finals(self) -> int:
        """At the study's own size."""
        return len(self.arms) * self.study.final_seeds

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of each arm's runs: trials, then final runs at the study's own size and at each smaller one."""
        num_seeds = self.study.final_seeds
        rungs = (Kind("rung", protocol, num_seeds) for protocol in self.rungs)
        tuning = Kind("trial", self.tuning_protocol, self.trials_an_arm)
        return (tuning, Kind("final", self.protocol, num_seeds), *rungs)

    @property
    def num_runs(self) -> int:
        return len(self.arms) * sum(kind.number for kind in self.kinds)

    @property
    def tuning_protocol(self) -> Protocol:
        """What trials are made under."""
        return tuning_protocol(self.study.ladder, self.rungs, self.protocol)

    @property
    def protocol_hash(self) -> str:
        return protocol_hash(self.protocol)

    @property
    def missing_device(self) -> str:
        """The kind of device that the study was begun on, where the machine has none of it; else ""."""
        if self.settled is None or self.study.protocol.device != "auto" or self.settled.device == self.protocol.device:
            return ""
        return self.settled.device

    @property
    def claims(self) -> Claims:
        """The study's, in the one spelling of poses and variants that the arms have."""
        poses = {pose: spell_pose(pose) for pose in self.study.poses}
        names = {entry.variant: str(parse_variant(entry.variant)) for entry in self.study.variants}
        family = tuple(
            Claim(poses[claim.pose], names[claim.variant], names[claim.baseline], claim.interaction)
            for claim in self.study.claims.family
        )
        return replace(self.study.claims, family=family)


@dataclass(frozen=True)
class Loaded:
    """A study's task. wanted: the label of the images that could not be had, where others took their place."""

    task: Task
    source: Source
    wanted: str = ""


def load(study: Study, *, label: str, cache: Path, say: Say, call: Call = here) -> Loaded:
    """The study's task. Arguments as of make_plan.

    Where its images cannot be downloaded, `sprites` takes their place, and `say` hears of it.
    Raises UserError for images that cannot be had, and, before it looks for them, for what is wrong with the study.
    """
    check_arms(study)
    call(find_device, study.protocol.device)
    spec, wanted, image_px = study.task, "", study.protocol.image_px
    try:
        task = load_task(spec, image_px=image_px, cache=cache, say=say, label=label)
    except DownloadError as error:
        say(f"{error}")
        instead = "so this study runs on the built-in task `sprites` instead, and says so."
        say(f"{error.label} cannot be had here, {instead}")
        spec, label, wanted = "sprites", "", label or error.label
        task = load_task(spec, image_px=image_px, cache=cache, say=say, label=label)
    return Loaded(task, Source(task=spec, label=label, image_px=image_px, cache=cache), wanted)


def make_plan(
    study: Study,
    *,
    label: str,
    cache: Path,
    say: Say,
    call: Call = here,
    ledger: Ledger | None = None,
    loaded: Loaded | None = None,
) -> Plan:
    """Load the task, fit and resolve the protocol, and check every arm.

    label: what to call the task; empty for its own name. call: calls a function on a machine that is to train.
    ledger: where the study may have been begun; what it has settled there is not found anew. loaded: the study's task.
    `say` hears of what `load` tells, and of test images that are training images too.
    Raises UserError for what cannot go together.
    """
    if loaded is None or loaded.source.image_px != study.protocol.image_px:
        loaded = load(study, label=label, cache=cache, say=say, call=call)
    arms, found = check_arms(study), call(find_device, study.protocol.device)
    task, name = loaded.task, study.full_name(loaded.task.label)
    settled = settled_protocol(ledger, name, task.content_hash) if ledger else None
    overlap = find_overlap(task)
    protocol, shrunk = fit_to_task(resolve(study.protocol, cache, call, settled), task)
    for line in filter(None, (overlap_text(task, overlap), shrunk)):
        say(line)
    notes = [left_for_others(ledger, study, loaded) if ledger else "", posed_in_vain(arms)]
    if settled and study.protocol.device == "auto" and protocol.device != found:
        notes.append(f"This study was begun on {protocol.device} and goes on there, although there is {found} here.")
    check_splits(study, protocol)
    plan = Plan(
        name=name,
        study=study,
        task=task,
        source=loaded.source,
        protocol=protocol,
        arms=arms,
        rungs=rung_protocols(study.ladder, study.file, study.protocol, protocol),
        overlap=overlap,
        settled=settled,
        notes=tuple(filter(None, notes)),
    )
    for arm in arms:
        check_networks(study, arm, protocol, task)
    return plan


def check_splits(study: Study, protocol: Protocol) -> None:
    """Raises UserError where each seed's tuning would go by too few validation images of its own."""
    if study.search.tuning == "per_seed" and protocol.val_images < MIN_VAL_IMAGES:
        raise UserError(
            f"{study.file}: tuning: per_seed needs {MIN_VAL_IMAGES} validation images or more, and there are "
            f"{protocol.val_images}; write tuning: once, or give more images"
        )


def posed_in_vain(arms: Sequence[ArmPlan]) -> str:
    """Which arms ask for fresh draws of a pose that has none, or that is drawn anew without being asked; else ""."""
    poses = {arm.pose: parse_pose(arm.pose) for arm in arms}
    fixed = {pose for pose, drawn in poses.items() if drawn.num_draws and not drawn.fresh}
    names = [arm.name for arm in arms if arm.pose not in fixed and asks_for_poses(arm.policy)]
    return f"{', '.join(names)}: `posed` does nothing there; it is for poses that are drawn once." if names else ""


def left_for_others(ledger: Ledger, study: Study, loaded: Loaded) -> str:
    """That the study has runs here on the images it was to have, or on those that had taken their place; else ""."""
    this = study.full_name(loaded.task.label)
    if loaded.wanted:
        name, what = study.full_name(loaded.wanted), f"of {loaded.wanted} itself"
    elif loaded.task.name not in ("sprites", "folder") and this not in ledger.studies():
        name, what = study.full_name("sprites"), "of `sprites`; `task: sprites` goes on with them"
    else:
        return ""
    num = num_finished(ledger, name)
    runs = f"{num:,} finished run{'s are' if num != 1 else ' is'}"
    return f"{this} is another study than {name}, whose {runs} {what}." if num else ""


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
        build_model_recipe(variant, {})
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
                build_model_recipe(variant, first | {name: value})
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
    variant = parse_variant(variant_name)
    with torch.device("meta"):
        network = build_network(
            variant,
            build_model_recipe(variant, values),
            num_classes=num_classes,
            image_px=image_px,
            mean_C=torch.zeros(num_channels),
            std_C=torch.ones(num_channels),
            seed=0,
            width=protocol.width,
        )
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
