"""What a study is, and how sweep.yaml says it: task, poses, variants, protocol, search, budgets."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from experiments.study.claims import read_claims
from experiments.study.factor import Factor, read_factor
from experiments.study.ladder import Ladder, read_ladder
from experiments.study.overrides import GIVEN, SEARCHED, read_overrides, recorded, with_overrides
from experiments.study.search_space import Parameter, read_space
from experiments.study.slug import slug
from experiments.study.sweep_file import Section, read_mapping
from experiments.tracking.sink import TrackerName
from ledger.config import Protocol
from ledger.errors import UserError, nearest
from ledger.names import name_and_options, variant_parts
from ledger.study import Claims

T = TypeVar("T", bound="Protocol | Search | Study | Wandb")

BUDGETS = ("smoke", "cpu", "night", "gpu")
"""Those that every study has, whether or not its file says anything of them; it may have others."""
_SEEDS = ("final_seeds", "first_seed")
_OF_BOTH = ("task", "group", "poses", "test_pose", "variants", "claims", "protocol", "ladder", "factor", *_SEEDS)
"""Keys of the file's top that a budget may have as well."""
_TOP = ("name", *_OF_BOTH, "search", "tracker", "wandb")
"""All of them, but for the budgets."""
MAX_ARMS = 5000
"""Far more than anybody trains."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_NAME_WORDS = "a name of the letters a to z, digits, - and _"
_OPTIONS = r"(?::[a-z_]+=[A-Za-z0-9_.-]+)*"
_POSE = rf"[A-Za-z][A-Za-z0-9_]*{_OPTIONS}"
_POSE_FORM = "of the form POSE or POSE:key=value"
_OF_LIBRARY = r":[A-Za-z0-9_.-]+(?::weights=[^:@+\x00-\x1f]+|:[a-z_]+=[A-Za-z0-9_.-]+)*"
_VARIANT = rf"[a-z][a-z0-9_]*{_OPTIONS}(@[a-z][a-z0-9_]*({_OPTIONS}|{_OF_LIBRARY}))?(\+[a-z][a-z0-9_]*{_OPTIONS})*"
_FORM = "of the form MODEL, MODEL+POLICY or MODEL@BACKBONE+POLICY+POLICY, each with :key=value where it has options"

_BOUNDS: dict[str, tuple[Any, Any]] = {
    "image_px": (8, 1024),
    **dict.fromkeys(("train_images", "val_images", "test_images", "robustness_images"), (0, 10_000_000)),
    "epochs": (1, 10_000),
    "batch_size": (1, 65_536),
    "width": (0.01, 100.0),
    **dict.fromkeys(("momentum", "label_smoothing"), (0.0, 0.9999)),
    **dict.fromkeys(("trials", "wave_size", "pruner_warmup_trials"), (1, 10_000)),
    "pruner_warmup_epochs": (0, 10_000),
    "seed": (0, 2**31 - 1),
    "final_seeds": (1, 1000),
    "first_seed": (1, 1_000_000),
}
"""Lowest and highest sensible value of each number of a protocol, a search and a study."""


@dataclass(frozen=True)
class Search:
    """How every variant is tuned.

    Args:
        sampler: tree-structured Parzen estimator, or independent draws.
        trials: runs for each variant and pose, the default setting among them.
        wave_size: trials proposed together, before any of them is known.
        pruner: whether trials below the median of earlier ones at the same epoch are stopped.
        pruner_warmup_trials: finished trials before anything is pruned.
        pruner_warmup_epochs: epochs that every trial may finish.
        seed: of the sampler.
        tuning: whether a variant is tuned once, for all its final runs, or anew for each of them, with a seed, a
            validation split and a winner of its own, so that what luck in tuning does is in the scatter over seeds.
        space: parameters that every variant has.
        extras: a model's or a policy's own parameters, by its name.
    """

    sampler: Literal["tpe", "random"] = "tpe"
    trials: int = 20
    wave_size: int = 4
    pruner: Literal["none", "median"] = "none"
    pruner_warmup_trials: int = 5
    pruner_warmup_epochs: int = 1
    seed: int = 0
    tuning: Literal["once", "per_seed"] = "once"
    space: tuple[Parameter, ...] = ()
    extras: Mapping[str, tuple[Parameter, ...]] = field(default_factory=dict)

    def parameters(self, variant: str) -> tuple[Parameter, ...]:
        """What is tuned for a variant: the shared space, its model's own and its policies' own.

        Where it has several policies, `policy.NAME` of one becomes `policy.POLICY.NAME`.
        """
        model, *policies = _names(variant)
        parameters = [*self.space, *self.extras.get(model, ())]
        for policy in dict.fromkeys(policies):  # one that is there twice is refused with the other names
            place = f"policy.{policy}." if len(policies) > 1 else "policy."
            for each in self.extras.get(policy, ()):
                parameters.append(replace(each, name=re.sub(r"^policy\.(?=\w+$)", place, each.name)))
        return tuple(parameters)


@dataclass(frozen=True)
class Wandb:
    """Where runs are logged; mode `auto` is online where the user is logged in and offline elsewhere."""

    project: str = "stn-bench"
    mode: Literal["auto", "offline", "online", "disabled"] = "auto"


@dataclass(frozen=True)
class Study:
    """One sweep.yaml at one budget. Names of tasks, poses and variants are well-formed, not yet known to exist.

    Args:
        file: the path it was read from, for messages.
        task: `cifar10`, `mnist`, `sprites` or `folder:PATH`.
        group: which images of a folder belong together, on one side of every split; empty: nothing is known of groups.
        variants: those that take part, each with the one that it is compared with (itself: with none).
        final_seeds: number of final runs for each variant and pose; tuning uses seed 0.
        first_seed: of the final runs; the others follow it. Another one repeats a study with fresh runs.
        test_pose: what the test part of final runs is put under; empty: the same pose as the other images.
        own_images: whether a folder of the user's own images took the place of the file's task.
        asked: what a probe was asked, by the names of its options; empty for a study whose sizes are its file's.
        budgets: all that there are for the file. has_budget: whether it says anything of this one.
        ladder: smaller sizes of training at which the final runs are repeated.
        overrides: what was set on the command line, by dotted key: what it is `now`, and what it `was`.
        factor: what the studies differ in of which this is one, or that it stands for.
        tracker: what shows runs; it changes none.
    """

    file: str
    name: str
    budget: str
    task: str
    variants: Mapping[str, str]
    search: Search
    wandb: Wandb
    group: str = ""
    poses: tuple[str, ...] = ("upright",)
    test_pose: str = ""
    protocol: Protocol = field(default_factory=Protocol)
    final_seeds: int = 5
    first_seed: int = 1
    claims: Claims = field(default_factory=Claims)
    own_images: bool = False
    asked: Mapping[str, float | str] = field(default_factory=dict)
    budgets: tuple[str, ...] = BUDGETS
    has_budget: bool = True
    ladder: Ladder = field(default_factory=Ladder)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    factor: Factor = field(default_factory=Factor)
    tracker: TrackerName = "wandb"

    def full_name(self, label: str) -> str:
        """The name of its folder in the ledger and of its group in W&B, on images of that label."""
        return f"{self.name}-{slug(label)}-{self.budget}"


def load_study(
    path: Path, budget: str, *, task: str | None = None, group: str = "", given: Iterable[str] = ()
) -> Study:
    """The study that a sweep file describes, with the overrides of one of its budgets.

    task, group: used at any budget instead of the file's. given: overrides that count after the budget's, as they are
    typed.
    Raises UserError for anything in the file, of this budget or another, that is not as it should be.
    """
    return _load(path, budget, task, group, read_overrides(given))


def load_studies(
    path: Path, budget: str, *, task: str | None = None, group: str = "", given: Iterable[str] = ()
) -> tuple[Study, ...]:
    """The study at each value of its factor, by overrides of its own; it alone where it has none. As load_study."""
    overrides = read_overrides(given)
    whole = _load(path, budget, task, group, overrides)
    factor = whole.factor
    if factor.key in overrides:
        raise UserError(f"{GIVEN}: {factor.key}: is the factor of this study; factor= takes it away")
    studies = (_load(path, budget, task, group, overrides | own) for own in factor.overrides())
    return tuple(replace(study, factor=factor) for study in studies) or (whole,)


def _load(path: Path, budget: str, task: str | None, group: str, overrides: Mapping[str, Any]) -> Study:
    top = read_mapping(path)
    budgets = _budgets(top)
    if budget not in budgets:
        raise top.error("budgets", f"there is no budget {budget!r}; {nearest(budget, budgets)}")
    studies = _read(top, budgets)
    study = studies[budget]
    if overrides:
        if task is not None and "task" in overrides:
            raise UserError(f"{GIVEN}: task: your own images (DATA=) take its place; give one of them")
        study = _overridden(study, top, overrides, studies.values())
    study = replace(
        study, budgets=budgets, has_budget=budget in top.section("budgets").values, group=group or study.group
    )
    return replace(study, task=task, own_images=True) if task is not None else study


def _overridden(study: Study, top: Section, overrides: Mapping[str, Any], others: Iterable[Study]) -> Study:
    """The study with these values instead of those that the file has at its budget, or of defaults.

    others: what the file describes without them.
    """
    sections = {"protocol": Protocol, "search": Search, "claims": Claims, "wandb": Wandb}
    known = [*_TOP, *(f"{name}.{each}" for name, kind in sections.items() for each in get_type_hints(kind))]
    for path in overrides:
        if path.partition(".")[0] not in _TOP:
            raise UserError(f"{GIVEN}: {path}: unknown key; {nearest(path, known)}")
    section, was = with_overrides(top, study.budget, overrides)
    changed = _read(section, [study.budget], others)[study.budget]
    befores = {path: _default(study, path) if value is None else value for path, value in was.items()}
    return replace(changed, file=study.file, overrides=recorded(befores, overrides))


def _default(study: Study, path: str) -> Any:
    """Of a key that the file lacks; None where it has none that is a single value."""
    try:
        value = attrgetter(path)(study)
    except AttributeError:
        return None
    return value if isinstance(value, bool | int | float | str) else None


def _budgets(top: Section) -> tuple[str, ...]:
    """The names of all budgets: each mapping under `budgets` is one."""
    section = top.section("budgets")
    for name in section.values:
        if not re.fullmatch(_NAME, name):
            raise section.error(name, f"is not {_NAME_WORDS}")
        if name == "auto":
            raise section.error(name, "is what lets the device decide; choose another name")
    return tuple(dict.fromkeys((*BUDGETS, *section.values)))


def _read(top: Section, budgets: Iterable[str], others: Iterable[Study] = ()) -> dict[str, Study]:
    """The study at each of these budgets. others: studies that may be what some of the extras are for."""
    top.only((*_TOP, "budgets"))
    base = Study(
        file=top.file,
        name=top.text("name", pattern=_NAME, what=_NAME_WORDS),
        budget="",
        task=top.text("task"),
        variants=_variants(top),
        search=_search(top.section("search")),
        wandb=_wandb(top.section("wandb")),
    )
    base = _override(base, top)
    sections = top.section("budgets")
    claims = top.section("claims")
    studies = {each: _budget(replace(base, budget=each), sections.section(each), claims) for each in budgets}
    _check_extras(top.section("search").section("extras"), (base, *studies.values(), *others))
    return studies


def _budget(base: Study, section: Section, claims: Section) -> Study:
    section.only((*_OF_BOTH, *SEARCHED))
    study = _override(replace(base, search=_with_fields(base.search, section.part(SEARCHED))), section)
    if len(study.poses) * len(study.variants) > MAX_ARMS:
        arms = f"{len(study.poses)} poses of {len(study.variants)} variants"
        raise section.error("", f"{arms} are more than the {MAX_ARMS} arms that a study may have")
    of = f" of {section.path}" if {"poses", "variants"} & set(section.values) else ""
    family = read_claims(claims, section.section("claims"), poses=study.poses, baselines=study.variants, of=of)
    return replace(study, claims=family)


def _override(study: Study, section: Section) -> Study:
    """The study with what the section says of it instead; the file's top and its budgets share these keys."""
    readers: dict[str, Callable[[Section], Any]] = {
        "task": lambda section: section.text("task"),
        "group": lambda section: section.text("group"),
        "poses": _poses,
        "test_pose": lambda section: (
            section.text("test_pose", pattern=_POSE, what=_POSE_FORM) if section.values["test_pose"] else ""
        ),
        "variants": _variants,
        "ladder": lambda section: read_ladder(section.section("ladder")),
    }
    given = {key: read(section) for key, read in readers.items() if key in section.values}
    protocol = read_protocol(study.protocol, section.section("protocol"))
    if protocol.val_images == 0:
        raise section.section("protocol").error("val_images", "0 leaves nothing to tune on")
    if "factor" in section.values:
        given["factor"] = read_factor(section.section("factor"), study.name, lambda part: read_protocol(protocol, part))
    return replace(_with_fields(study, section.part((*_SEEDS, "tracker"))), protocol=protocol, **given)


def read_protocol(base: Protocol, section: Section) -> Protocol:
    """The protocol with what the section says of it instead. Raises UserError for values that make no sense."""
    section.only(get_type_hints(Protocol))
    protocol = _with_fields(base, section)
    if protocol.nesterov and protocol.momentum == 0 and {"nesterov", "momentum"} & set(section.values):
        raise section.error("momentum", "0 does not go with nesterov: true; write nesterov: false")
    return protocol


def _with_fields(base: T, section: Section) -> T:
    """The dataclass with what the section says of fields that are words, truth values or numbers."""
    types = get_type_hints(type(base))
    given: dict[str, Any] = {}
    for key in section.values:
        if get_origin(types[key]) is Literal:
            given[key] = section.choice(key, get_args(types[key]))
        elif types[key] is bool:
            given[key] = section.boolean(key)
        elif types[key] is int:
            given[key] = section.integer(key, *_BOUNDS[key])
        else:
            given[key] = float(section.number(key, *_BOUNDS[key]))
    return replace(base, **given)


def _wandb(section: Section) -> Wandb:
    section.only(("project", "mode"))
    pattern = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
    project = section.text("project", Wandb.project, pattern=pattern, what="a project's name")
    return _with_fields(Wandb(project), section.part(("mode",)))


def _poses(section: Section) -> tuple[str, ...]:
    items = section.items("poses")
    poses = tuple(items.text(key, pattern=_POSE, what=_POSE_FORM) for key in items.values)
    _check_unique(items, poses)
    return poses


def _variants(section: Section) -> dict[str, str]:
    items, entries = section.items("variants"), []
    for item in map(items.section, items.values):
        item.only(("variant", "baseline"))
        entries.append([item.text(part, pattern=_VARIANT, what=_FORM) for part in ("variant", "baseline")])
    names = [name for name, _ in entries]
    _check_unique(items, names)
    for key, (_, baseline) in zip(items.values, entries, strict=True):
        if baseline not in names:
            message = f"{baseline!r} is not among the variants; {nearest(baseline, names)}"
            raise items.section(key).error("baseline", message)
    return dict(entries)


def _check_unique(items: Section, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for key, name in zip(items.values, names, strict=True):
        if name in seen:
            raise items.error(key, f"{name!r} is there twice")
        seen.add(name)


def _search(section: Section) -> Search:
    known = {each.name for each in dataclasses.fields(Search)}
    section.only(known)
    extras = section.section("extras")
    return replace(
        _with_fields(Search(), section.part(known - {"space", "extras"})),
        space=read_space(section.section("space")),
        extras={name: read_space(extras.section(name)) for name in extras.values},
    )


def _names(variant: str) -> tuple[str, ...]:
    """The model's and the policies' names, by which a variant has its extras."""
    parts = variant_parts(variant)
    return tuple(name_and_options(part)[0] for part in (parts.model, *parts.policies))


def _check_extras(section: Section, studies: tuple[Study, ...]) -> None:
    """Refuse extras of what takes part at no budget, and a parameter that a variant would have twice."""
    known = {name for study in studies for variant in study.variants for name in _names(variant)}
    for name in section.values:
        if name not in known:
            raise section.error(name, f"no variant has this model or policy; {nearest(name, known)}")
    for study in studies:
        for variant in study.variants:
            names = [parameter.name for parameter in study.search.parameters(variant)]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise section.error("", f"{variant} would have {twice} twice")
