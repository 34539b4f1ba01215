"""Everything that a name can stand for: models, backbones, policies, tasks and poses, with what they are and can do."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from experiments.errors import UserError, nearest
from experiments.models import MODELS
from experiments.options import Value, fields
from experiments.poses import POSES
from experiments.tasks import TASKS

Entry = TypedDict(
    "Entry",
    {"what": str, "about": str, "hyper-parameters": dict[str, Value], "choices": dict[str, list[Value]]},
)
"""What a name stands for in one sentence and in full; its options with their defaults, and what words they may be."""

KINDS: Mapping[str, Mapping[str, Any]] = {
    "model": MODELS,
    "backbone": BACKBONES,
    "policy": POLICIES,
    "task": TASKS,
    "pose": POSES,
}


def catalogue(name: str = "") -> dict[str, dict[str, Entry]]:
    """Everything of that name, or everything at all, by kind and name. Raises UserError if nothing has the name."""
    found = {
        kind: {each: _entry(kind, owner) for each, owner in known.items() if name in ("", each)}
        for kind, known in KINDS.items()
    }
    if not any(found.values()):
        names = {each for known in KINDS.values() for each in known}
        raise UserError(f"variants: {name!r} is the name of nothing; {nearest(name, names)}")
    return {kind: entries for kind, entries in found.items() if entries}


def _entry(kind: str, owner: Any) -> Entry:
    own: dict[str, Value] = {"width": 1.0} if kind == "backbone" else {}
    choices: dict[str, list[Value]] = {}
    # What a model inherits from a family of models is written where the family is.
    sources = [owner]
    if dataclasses.is_dataclass(owner) and isinstance(owner, type):
        own = fields(owner)
        hints = get_type_hints(owner)
        choices = {key: list(get_args(hints[key])) for key in own if get_origin(hints[key]) is Literal}
        sources = [each for each in owner.__mro__ if dataclasses.is_dataclass(each)]
    about = "\n\n".join(inspect.cleandoc(each.__doc__ or "") for each in sources)
    paragraph = " ".join(about.partition("\n\n")[0].split())
    what = re.split(r"(?<=[.?])\s", paragraph, maxsplit=1)[0]
    return {"what": what, "about": about, "hyper-parameters": own, "choices": choices}
