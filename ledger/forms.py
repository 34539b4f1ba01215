"""What the ledger's JSON must hold: types and ranges by name, judged before anything is computed.

Names that are not mentioned may hold anything, since nothing reads them. docs/ledger.md says what values mean.
"""

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeGuard, Union

from ledger.roles import ROLES
from ledger.scores import COSTS, RESULT, TRANSFORMER, TRANSFORMER_POSE, UPRIGHT, Score

MAX_TEXT = 10_000
"""Characters of a text; the longest are error messages."""
MAX_NUMBER = 1e60
"""Far above anything measured, and far from where sums of squares overflow."""
MAX_WHOLE = 10**15
"""The largest whole number that is computed with; tables take them for floating-point ones."""

_show = reprlib.Repr()
_show.maxstring = _show.maxother = 80


def shown(value: object) -> str:
    """The value as a message quotes it: one line, cut if long."""
    return _show.repr(value)


class Kind(NamedTuple):
    """A single value. what: in words; fits: whether this is one."""

    what: str
    fits: Callable[[Any], bool]


class Rows(NamedTuple):
    """A list."""

    of: "Shape"


class Named(NamedTuple):
    """An object of any names."""

    of: "Shape"


class Object(NamedTuple):
    """An object with these names. needed: those that are never absent, or several of which one is there: `a or b`."""

    names: Mapping[str, "Shape"]
    needed: tuple[str, ...] = ()


Shape: TypeAlias = Union[Kind, Rows, Named, Object, Mapping[str, "Shape"]]  # noqa: UP007  a string cannot stand beside |
"""A mapping is an object with these names, of which each may be absent; or null."""


def misfit(file_name: str, value: Any, *, whole: bool = True) -> str:
    """What is wrong with the value of a file of that name, in words with the innermost name; "" where nothing is.

    whole: nothing that is needed may be absent.
    """
    return next(_misfits(value, FORMS[file_name], file_name, whole), "")


def _misfits(value: Any, shape: Shape, name: str, whole: bool) -> Iterator[str]:
    match shape:
        case Kind():
            if not shape.fits(value):
                yield f"{name!r} is {shown(value)}, expected {shape.what}"
        case Rows():
            if not isinstance(value, list):
                yield f"{name!r} is {shown(value)}, expected a list"
            else:
                for item in value:
                    yield from _misfits(item, shape.of, name, whole)
        case Named() | Object() if not isinstance(value, dict):
            yield f"{name!r} is {shown(value)}, expected an object"
        case Object():
            for need in shape.needed:
                if whole and not value.keys() & set(need.split(" or ")):
                    yield f"{need!r} is missing"
            yield from _misfits(value, shape.names, name, whole)
        case Named():
            for key, item in value.items():
                yield from _misfits(key, TEXT, name, whole)
                yield from _misfits(item, shape.of, key, whole)
        case _ if not isinstance(value, dict | None):
            yield f"{name!r} is {shown(value)}, expected an object or null"
        case _:
            for key, inner in shape.items():
                if value and key in value:
                    yield from _misfits(value[key], inner, key, whole)


def is_whole(value: Any) -> TypeGuard[int]:
    """A whole number that any other program can read, too."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def is_key(value: Any) -> TypeGuard[str]:
    """A run's key: a folder in the ledger, and never one beside it."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) is not None


def _is_number(value: Any, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_text(value: Any) -> bool:
    """Lone surrogates, which JSON can spell, cannot be written to any file."""
    return isinstance(value, str) and len(value) <= MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)


def _or_null(what: str, fits: Callable[[Any], bool], *, null: str = ", or null") -> Kind:
    return Kind(f"{what}{null}", lambda value: value is None or fits(value))


def _is_count(value: Any, low: int = 0) -> bool:
    return isinstance(value, int) and _is_number(value, low, MAX_WHOLE)


TEXT = Kind(f"text of at most {MAX_TEXT} characters", _is_text)
TEXT_OR_NULL = _or_null("text", _is_text, null=" or null")
NUMBER = _or_null("a number", _is_number, null=" or null")
AMOUNT = _or_null("a number of at least 0", lambda value: _is_number(value, 0))
SHARE = _or_null("a number between 0 and 1", lambda value: _is_number(value, -1e-6, 1 + 1e-6))
COUNT = _or_null("a whole number of at least 0", _is_count)
WHOLE = _or_null("a whole number", lambda value: _is_count(value, -MAX_WHOLE))
INTEGER = Kind("a whole number", is_whole)
TALLY = Kind("a whole number of at least 0", _is_count)
PROBABILITY = Kind("a number between 1e-6 and 0.5", lambda value: _is_number(value, 1e-6, 0.5))
HASH = Kind(
    "letters and digits",
    lambda value: isinstance(value, str) and value.isascii() and value.isalnum() and len(value) <= 128,
)
KEY = Kind("a run's key", is_key)
KEY_OR_NULL = _or_null("a run's key", is_key)
ROLE = Kind(f"one of {', '.join(ROLES)}", lambda value: value in ROLES)
FLAG = _or_null("true, false", lambda value: isinstance(value, bool), null=" or null")
PLAIN = _or_null(
    "a number, text, true, false",
    lambda value: isinstance(value, bool) or _is_number(value) or _is_text(value),
    null=" or null",
)


def _numbers(scores: Iterable[Score]) -> dict[str, Shape]:
    forms = {"count": COUNT, "share": SHARE, "amount": AMOUNT, "number": NUMBER}
    return {score.name: forms[score.form] for score in scores if score.form in forms}


_TRANSFORMER: Mapping[str, Shape] = {
    **_numbers(TRANSFORMER), "verdict": TEXT_OR_NULL, "pose": _numbers(TRANSFORMER_POSE)
}  # fmt: skip
RUN = Object(
    {
        "format": INTEGER,
        "status": TEXT,
        "error": TEXT_OR_NULL,
        "protocol_hash": HASH,
        "task": {"label": TEXT, "content_hash": HASH},
        "config": {
            "variant": TEXT, "pose": TEXT, "test_pose": TEXT, "stage": TEXT, "seed": WHOLE, "protocol": Named(PLAIN),
            "optim": Named(PLAIN), "model": Named(PLAIN), "policy": Named(PLAIN),
        },
        "result": {**_numbers((*RESULT, UPRIGHT)), "transformer": _TRANSFORMER},
    },
    needed=("format", "status"),
)  # fmt: skip
COST = Object(
    {
        **_numbers(COSTS),
        "device": TEXT_OR_NULL, "device_name": TEXT_OR_NULL, "threads": COUNT, "versions": Named(TEXT),
        "code": Named(TEXT),
    }
)  # fmt: skip
EPOCH = Object({"epoch": COUNT, "train_accuracy": SHARE, "val_accuracy": SHARE}, needed=("val_accuracy",))
ROBUSTNESS = Object(
    {
        "num_images": COUNT,
        "points": Rows({"kind": TEXT, "value": NUMBER, "accuracy": SHARE, "agreement": SHARE}),
        "worst_of_grid": {"max_deg": NUMBER, "max_px": NUMBER, "num_points": COUNT, "accuracy": SHARE},
        "corruptions": Rows({"kind": TEXT, "name": TEXT, "severity": COUNT, "accuracy": SHARE}),
    }
)
ARM = Object(
    {
        "pose": TEXT, "variant": TEXT, "baseline": TEXT, "trials": Rows(KEY), "finals": Rows(KEY),
        "role": ROLE, "words": TEXT, "pose_words": TEXT, "policy_words": Rows(TEXT),
        "winner": KEY_OR_NULL, "winners": Rows(KEY_OR_NULL), "rungs": Rows(Rows(KEY)), "space": {},
    },
    needed=("pose", "variant", "trials", "finals", "winner or winners"),
)  # fmt: skip
STUDY = Object(
    {
        "format": INTEGER,
        "study": TEXT,
        "budget": TEXT,
        "wandb_project": TEXT,
        "tracker": TEXT,
        "protocol_hash": HASH,
        "protocol": Named(PLAIN),
        "num_trials": INTEGER,
        "num_finals": INTEGER,
        "task": Object(
            {"label": TEXT, "content_hash": HASH, "classes": Rows(TEXT), "groups": COUNT},
            needed=("label", "content_hash"),
        ),
        "images": Object(
            {"facts": Rows(Rows(TEXT)), "warnings": Rows(TEXT), "train": Rows(TALLY), "test": Rows(TALLY)}
        ),
        "overlap": {"num_test": COUNT, "num_other_label": COUNT},
        "test_pose": Object({"name": TEXT, "words": TEXT}, needed=("name", "words")),
        "arms": Rows(ARM),
        "rungs": Rows(Object({"train_images": TALLY, "epochs": TALLY, "protocol_hash": HASH})),
        "tuned_at": COUNT,
        "factor": Object({"key": TEXT, "values": Rows(PLAIN), "studies": Rows(TEXT)}, ("key", "values", "studies")),
        "first": {"spaces": Object({})},
        "found": Object({}),
        "spaces": Object({}),
        "claims": {"alpha": PROBABILITY, "margin": PROBABILITY},
        "sampler": TEXT_OR_NULL,
        "tuning": TEXT_OR_NULL,
        "source": {
            "file": TEXT_OR_NULL, "data": FLAG, "minutes": NUMBER, "turns": TEXT_OR_NULL, "mirror": TEXT_OR_NULL,
            "group": TEXT_OR_NULL, "overrides": Named(Object({}, needed=("was", "now"))),
        },
    },
    needed=(
        "format", "study", "budget", "wandb_project", "protocol_hash", "num_trials", "num_finals", "task", "arms",
    ),
)  # fmt: skip
FORMS: Mapping[str, Shape] = {
    "run.json": RUN,
    "history.json": Rows(EPOCH),
    "cost.json": COST,
    "robustness.json": ROBUSTNESS,
    "study.json": STUDY,
}
"""By the file's name."""
