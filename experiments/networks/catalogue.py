"""Everything that a name can stand for: models, backbones, policies, tasks and poses, with what they are and can do."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from experiments.images.poses import POSES, spell_pose
from experiments.images.tasks import TASKS
from experiments.networks.models import MODELS
from experiments.networks.variants import (
    DEFAULT_BACKBONE,
    LIBRARIES,
    REGISTRIES,
    build_model,
    build_policy,
    parse_variant,
)
from ledger.errors import UserError, nearest
from ledger.options import Value, fields, split_name, typed

Entry = TypedDict(
    "Entry",
    {
        "what": str,
        "about": str,
        "hyper-parameters": dict[str, Value],
        "choices": dict[str, list[Value]],
        "given": dict[str, Value],
    },
)
"""What a name stands for in one sentence and in full; its options with their defaults, what words they may be, and what
the name that was asked for sets them to."""

KINDS: Mapping[str, Mapping[str, Any]] = {**REGISTRIES, "library": LIBRARIES, "task": TASKS, "pose": POSES}


def catalogue(name: str = "") -> dict[str, dict[str, Entry]]:
    """Everything of that name, or everything at all, by kind and name; of a whole variant, its parts.

    Raises UserError if nothing has the name, or a part or an option of it does not exist.
    """
    given = _options_of(name) if re.search("[:@+]", name) else {}
    entries: dict[str, dict[str, Entry]] = {}
    for kind, known in KINDS.items():
        for entry, owner in known.items():
            if (kind, entry) in given or name in ("", entry):
                entries.setdefault(kind, {})[entry] = _entry(kind, owner, given.get((kind, entry), {}))
    if not entries:
        raise UserError(f"variants: {name!r} is unknown; {nearest(name, set().union(*KINDS.values()))}")
    return entries


def first_sentence(owner: Any) -> str:
    """What the docstring says first; "" where it has none of its own."""
    about = inspect.cleandoc(owner.__doc__ or "")
    if about.startswith(f"{owner.__name__}("):  # which dataclasses write themselves
        return ""
    return re.split(r"(?<=[.?])\s", " ".join(about.partition("\n\n")[0].split()), maxsplit=1)[0]


def in_sentence(owner: object) -> str:
    """What the file of a model, a policy or a pose says of it, as a part of a sentence."""
    # Not the letters of an abbreviation
    return re.sub("^[A-Z](?=[a-z ])", lambda letter: letter[0].lower(), first_sentence(owner).removesuffix("."))


def _options_of(name: str) -> dict[tuple[str, str], Mapping[str, Value]]:
    """What the parts of a variant or the options of a pose or policy set, by kind and name; {} for another name."""
    first = re.split("[:@+]", name)[0]
    if first in POSES:
        options = split_name(spell_pose(name), "pose")[1]
        return {("pose", first): {key: typed(POSES[first], first, key, text) for key, text in options.items()}}
    if first in TASKS and "+" not in name:
        return {("task", first): {}}
    whole = name
    if first not in MODELS and not re.search("[@+]", name):
        mark = "+" if first in POLICIES else "@" if first in {*BACKBONES, *LIBRARIES} else ""
        if not mark:
            return {}
        whole = f"{DEFAULT_BACKBONE}{mark}{name}"
    variant = parse_variant(whole)
    build_model(variant, {})
    build_policy(variant, {})
    given: dict[tuple[str, str], Mapping[str, Value]] = {}
    if whole == name:
        given["model", variant.model] = variant.model_options
    if variant.library:
        given["library", variant.library] = variant.backbone_options
    elif "@" in whole:
        given["backbone", variant.backbone] = {"width": variant.width} if variant.width != 1 else {}
    if "+" in whole:
        given |= {("policy", policy): variant.options_of(policy) for policy in variant.policies}
    return given


def _entry(kind: str, owner: Any, given: Mapping[str, Value]) -> Entry:
    options: dict[str, Value] = {"width": 1.0} if kind == "backbone" else {}
    choices: dict[str, list[Value]] = {}
    # What a model inherits from a family of models is written where the family is.
    sources = [owner]
    if dataclasses.is_dataclass(owner) and isinstance(owner, type):
        options = fields(owner)
        hints = get_type_hints(owner)
        choices = {key: list(get_args(hints[key])) for key in options if get_origin(hints[key]) is Literal}
        sources = [base for base in owner.__mro__ if dataclasses.is_dataclass(base)]
    about = "\n\n".join(inspect.cleandoc(source.__doc__ or "") for source in sources)
    # What concerns programs only. Up to a point that ends a sentence: not the one of a number.
    about = re.sub(r"(?s)\s*\b(Raises \w+Error\b.*?|Arguments as of BuildTask)\.(?=\s|$)", "", about)
    return {
        "what": first_sentence(owner),
        "about": about,
        "hyper-parameters": options,
        "choices": choices,
        "given": dict(given),
    }
