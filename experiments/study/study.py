"""What a study is, and how sweep.yaml says it: task, poses, variants, protocol, search, budgets."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints
from unicodedata import category, normalize

from experiments.study.claims import read_claims
from experiments.study.ladder import Ladder, read_ladder
from experiments.study.search_space import Parameter, read_space
from experiments.study.sweep_file import Section, read_mapping
from ledger.config import Protocol
from ledger.errors import nearest
from ledger.names import name_and_options, variant_parts
from ledger.study import Claims

__all__ = ["BUDGETS", "Parameter", "Search", "Study", "StudyVariant", "Wandb", "load_study"]

TuningKind = Literal["once", "per_seed"]

BUDGETS = ("smoke", "cpu", "night", "gpu")

SEEDS = ("final_seeds", "first_seed")

MAX_SLUG = 48
"""Characters of a file's name that a task's label makes."""

MAX_ARMS = 5000
"""Far more than anybody trains."""

_OPTIONS = r"(?::[a-z_]+=[A-Za-z0-9_.-]+)*"
_VARIANT = rf"[a-z][a-z0-9_]*{_OPTIONS}(@[a-z][a-z0-9_]*{_OPTIONS})?(\+[a-z][a-z0-9_]*{_OPTIONS})*"
_FORM = "of the form MODEL, MODEL+POLICY or MODEL@BACKBONE+POLICY+POLICY, each with :key=value where it has options"

_WHOLE_BOUNDS = {
    "image_px": (8, 1024),
    "train_images": (0, 10_000_000),
    "val_images": (0, 10_000_000),
    "test_images": (0, 10_000_000),
    "epochs": (1, 10_000),
    "batch_size": (1, 65_536),
    "robustness_images": (0, 10_000_000),
}
_NUMBER_BOUNDS = {"width": (0.01, 100.0), "momentum": (0.0, 0.9999), "label_smoothing": (0.0, 0.9999)}
"""Lowest and highest sensible value of the protocol's numbers."""


@dataclass(frozen=True)
class StudyVariant:
    """A variant that takes part, and the one of the same study that it is compared with (itself: with none)."""

    variant: str
    baseline: str


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

    sampler: Literal["tpe", "random"]
    trials: int
    wave_size: int
    pruner: Literal["none", "median"]
    pruner_warmup_trials: int
    pruner_warmup_epochs: int
    seed: int
    tuning: TuningKind
    space: tuple[Parameter, ...]
    extras: dict[str, tuple[Parameter, ...]]

    def parameters(self, variant: str) -> tuple[Parameter, ...]:
        """What is tuned for a variant: the shared space, its model's own and its policies' own.

        Where it has several policies, `policy.NAME` of one becomes `policy.POLICY.NAME`.
        """
        model, *policies = _names(variant)
        found = [*self.space, *self.extras.get(model, ())]
        for policy in dict.fromkeys(policies):  # one that is there twice is refused with the other names
            place = f"policy.{policy}." if len(policies) > 1 else "policy."
            own = self.extras.get(policy, ())
            found += [dataclasses.replace(each, name=re.sub(r"^policy\.(?=\w+$)", place, each.name)) for each in own]
        return tuple(found)


@dataclass(frozen=True)
class Wandb:
    """Where runs are logged; mode `auto` is online where the user is logged in and offline elsewhere."""

    project: str
    mode: Literal["auto", "offline", "online", "disabled"]


@dataclass(frozen=True)
class Study:
    """One sweep.yaml at one budget. Names of tasks, poses and variants are well-formed, not yet known to exist.

    Args:
        file: the path it was read from, for messages.
        task: `cifar10`, `mnist`, `sprites` or `folder:PATH`.
        final_seeds: number of final runs for each variant and pose; tuning uses seed 0.
        first_seed: of the final runs; the others follow it. Another one repeats a study with runs that nobody has seen.
        own_images: whether a folder of the user's own images took the place of the file's task.
        asked: what a probe was asked, by the names of its options; empty for a study whose sizes are its file's.
        has_budget: whether the file says anything of this budget.
        ladder: smaller sizes of training at which the final runs are repeated.
    """

    file: str
    name: str
    budget: str
    task: str
    poses: tuple[str, ...]
    variants: tuple[StudyVariant, ...]
    protocol: Protocol
    search: Search
    final_seeds: int
    claims: Claims
    wandb: Wandb
    own_images: bool = False
    asked: Mapping[str, float | str] = dataclasses.field(default_factory=dict)
    has_budget: bool = True
    first_seed: int = 1
    ladder: Ladder = dataclasses.field(default_factory=Ladder)

    def full_name(self, label: str) -> str:
        """Of the study on images of that label: of its folder in the ledger, and of its group in W&B."""
        return f"{self.name}-{slug(label)}-{self.budget}"


def slug(label: str) -> str:
    """The label as a part of a file's name: its letters and digits, of any script, in at most 48 characters.

    Digits of the label's hash follow where others may come to the same: its end was cut off, or symbols such as emoji
    left out; spaces and punctuation make no difference.
    """
    text = normalize("NFC", normalize("NFD", label).casefold())
    name = re.sub("-+", "-", "".join(each if _is_part_of_word(each) else "-" for each in text)).strip("-")
    short = _cut(name, MAX_SLUG)
    symbols = any(not each.isascii() and category(each)[0] not in "LMNPZ" for each in text)
    if name and short == name and not symbols:
        return name
    digits = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{_cut(name, MAX_SLUG - 7) or 'task'}-{digits}"


def _is_part_of_word(character: str) -> bool:
    """Letters of many scripts are written with marks, which no variation of an emoji is."""
    is_mark = category(character) in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f"
    return character.isalnum() or is_mark


def _cut(name: str, num: int) -> str:
    """Its first characters, in no more than three bytes each, since file systems count those."""
    return name[:num].encode()[: 3 * num].decode(errors="ignore").strip("-")


def load_study(path: Path, budget: str, *, task: str | None = None) -> Study:
    """The study that a sweep file describes, with the overrides of one of its budgets.

    task: used at any budget instead of the file's.
    Raises UserError for anything in the file, of this budget or another, that is not as it should be.
    """
    top = read_mapping(path)
    top.only(
        ("name", "task", "poses", "variants", "claims", "protocol", "search", *SEEDS, "wandb", "budgets", "ladder")
    )
    if budget not in BUDGETS:
        raise top.error("budgets", f"there is no budget {budget!r}; {nearest(budget, BUDGETS)}")
    name = top.text(
        "name", pattern=r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", what="a name of the letters a to z, digits, - and _"
    )
    wandb = top.section("wandb")
    wandb.only(("project", "mode"))
    base = Study(
        file=str(path),
        name=name,
        budget=budget,
        task=top.text("task"),
        poses=("upright",),
        variants=_variants(top),
        protocol=Protocol(),
        search=_search(top.section("search")),
        final_seeds=5,
        claims=Claims(),
        wandb=Wandb(
            wandb.text("project", "stn-bench", pattern=r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", what="a project's name"),
            cast(Any, wandb.choice("mode", ("auto", "offline", "online", "disabled"), "auto")),
        ),
    )
    base = _override(base, top)
    sections = top.section("budgets")
    sections.only(BUDGETS)
    studies = {each: _budget(base, sections.section(each), top.section("claims")) for each in BUDGETS}
    _check_extras(top.section("search").section("extras"), (base, *studies.values()))
    study = dataclasses.replace(studies[budget], has_budget=budget in sections.values)
    return dataclasses.replace(study, task=task, own_images=True) if task is not None else study


def _budget(base: Study, section: Section, claims: Section) -> Study:
    section.only(("task", "poses", "variants", "claims", "protocol", "trials", "wave_size", "tuning", "ladder", *SEEDS))
    trials = section.integer("trials", 1, 10_000, base.search.trials)
    wave_size = section.integer("wave_size", 1, 10_000, base.search.wave_size)
    tuning = cast(TuningKind, section.choice("tuning", get_args(TuningKind), base.search.tuning))
    search = dataclasses.replace(base.search, trials=trials, wave_size=wave_size, tuning=tuning)
    study = _override(dataclasses.replace(base, search=search), section)
    baselines = {entry.variant: entry.baseline for entry in study.variants}
    if len(study.poses) * len(baselines) > MAX_ARMS:
        arms = f"{len(study.poses)} poses of {len(baselines)} variants"
        raise section.error("", f"{arms} are more than the {MAX_ARMS} arms that a study may have")
    of = f" of {section.path}" if {"poses", "variants"} & set(section.values) else ""
    found = read_claims(claims, section.section("claims"), poses=study.poses, baselines=baselines, of=of)
    return dataclasses.replace(study, claims=found)


def _override(study: Study, section: Section) -> Study:
    """The study with what the section says of it instead; the file's top and its budgets share these keys."""
    given: dict[str, Any] = {}
    if "task" in section.values:
        given["task"] = section.text("task")
    if "poses" in section.values:
        given["poses"] = _poses(section)
    if "variants" in section.values:
        given["variants"] = _variants(section)
    if "final_seeds" in section.values:
        given["final_seeds"] = section.integer("final_seeds", 1, 1000)
    if "first_seed" in section.values:
        given["first_seed"] = section.integer("first_seed", 1, 1_000_000)
    if "ladder" in section.values:
        given["ladder"] = read_ladder(section.section("ladder"))
    protocol = read_protocol(study.protocol, section.section("protocol"))
    if protocol.val_images == 0:
        raise section.section("protocol").error("val_images", "0 leaves nothing to tune on")
    return dataclasses.replace(study, protocol=protocol, **given)


def read_protocol(base: Protocol, section: Section) -> Protocol:
    """The protocol with what the section says of it instead. Raises UserError for values that make no sense."""
    types = get_type_hints(Protocol)
    section.only(types)
    given: dict[str, Any] = {}
    for key in section.values:
        kind = types[key]
        if get_origin(kind) is Literal:
            given[key] = section.choice(key, get_args(kind))
        elif kind is bool:
            given[key] = section.boolean(key)
        elif kind is int:
            given[key] = section.integer(key, *_WHOLE_BOUNDS[key])
        else:
            given[key] = float(section.number(key, *_NUMBER_BOUNDS[key]))
    protocol = dataclasses.replace(base, **given)
    if protocol.nesterov and protocol.momentum == 0 and {"nesterov", "momentum"} & set(given):
        raise section.error("momentum", "0 does not go with nesterov: true; write nesterov: false")
    return protocol


def _poses(section: Section) -> tuple[str, ...]:
    items, what = section.items("poses"), "of the form POSE or POSE:key=value"
    poses = tuple(items.text(key, pattern=rf"[A-Za-z][A-Za-z0-9_]*{_OPTIONS}", what=what) for key in items.values)
    _check_unique(items, poses)
    return poses


def _variants(section: Section) -> tuple[StudyVariant, ...]:
    items = section.items("variants")
    entries = []
    for key in items.values:
        item = items.section(key)
        item.only(("variant", "baseline"))
        entries.append(
            StudyVariant(*(item.text(part, pattern=_VARIANT, what=_FORM) for part in ("variant", "baseline")))
        )
    names = [entry.variant for entry in entries]
    _check_unique(items, names)
    for key, entry in zip(items.values, entries, strict=True):
        if entry.baseline not in names:
            message = f"{entry.baseline!r} is not among the variants; {nearest(entry.baseline, names)}"
            raise items.section(key).error("baseline", message)
    return tuple(entries)


def _check_unique(items: Section, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for key, name in zip(items.values, names, strict=True):
        if name in seen:
            raise items.error(key, f"{name!r} is there twice")
        seen.add(name)


def _search(section: Section) -> Search:
    section.only(field.name for field in dataclasses.fields(Search))
    extras = section.section("extras")
    return Search(
        sampler=cast(Any, section.choice("sampler", ("tpe", "random"), "tpe")),
        trials=section.integer("trials", 1, 10_000, 20),
        wave_size=section.integer("wave_size", 1, 10_000, 4),
        pruner=cast(Any, section.choice("pruner", ("none", "median"), "none")),
        pruner_warmup_trials=section.integer("pruner_warmup_trials", 1, 10_000, 5),
        pruner_warmup_epochs=section.integer("pruner_warmup_epochs", 0, 10_000, 1),
        seed=section.integer("seed", 0, 2**31 - 1, 0),
        tuning=cast(Any, section.choice("tuning", get_args(TuningKind), "once")),
        space=read_space(section.section("space")),
        extras={name: read_space(extras.section(name)) for name in extras.values},
    )


def _names(variant: str) -> tuple[str, ...]:
    """The model's and the policies' names, by which a variant has its extras."""
    parts = variant_parts(variant)
    return tuple(name_and_options(part)[0] for part in (parts.model, *parts.policies))


def _check_extras(section: Section, studies: tuple[Study, ...]) -> None:
    """Refuse extras of what takes part at no budget, and a parameter that a variant would have twice."""
    known = {name for study in studies for entry in study.variants for name in _names(entry.variant)}
    for name in section.values:
        if name not in known:
            raise section.error(name, f"no variant has this model or policy; {nearest(name, known)}")
    for study in studies:
        for entry in study.variants:
            names = [parameter.name for parameter in study.search.parameters(entry.variant)]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                raise section.error("", f"{entry.variant} would have {twice} twice")
