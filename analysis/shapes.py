"""What the ledger's files must hold, whoever wrote them: types and ranges by name, checked before anything is computed.

Names that are not mentioned may hold anything, since nothing reads them; what is mentioned may be absent, unless a
reader asks for it. docs/architecture.md says what the values mean.
"""

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, Union

from analysis.errors import AnalysisError
from ledger.roles import ROLES

MAX_TEXT = 10_000
"""Characters of a text; the longest are error messages."""
MAX_NUMBER = 1e60
"""Far above anything measured, and far from where sums of squares overflow."""

_show = reprlib.Repr()
_show.maxstring = _show.maxother = 80


def shown(value: object) -> str:
    """The value as a message quotes it: one line, cut if long."""
    return _show.repr(value)


@dataclass(frozen=True)
class Kind:
    """A single value. what: in words; fits: whether this is one."""

    what: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Rows:
    """A list."""

    of: "Shape"


@dataclass(frozen=True)
class Named:
    """An object of any names."""

    of: "Shape"


Shape: TypeAlias = Union[Kind, Rows, Named, Mapping[str, "Shape"]]  # noqa: UP007  a string cannot stand beside |
"""A mapping is an object with these names, or null."""


def check(file: Path, value: Any, shape: Shape, name: str = "") -> None:
    """Raises AnalysisError, with the file and the innermost name, for a value of another shape."""
    match shape:
        case Kind():
            if not shape.fits(value):
                raise AnalysisError(f"{file}: {name!r} is {shown(value)}, expected {shape.what}")
        case Rows():
            if not isinstance(value, list):
                raise AnalysisError(f"{file}: {name!r} is {shown(value)}, expected a list")
            for item in value:
                check(file, item, shape.of, name)
        case Named():
            if not isinstance(value, dict):
                raise AnalysisError(f"{file}: {name!r} is {shown(value)}, expected an object")
            for key, item in value.items():
                check(file, key, TEXT, name)
                check(file, item, shape.of, key)
        case _:
            if not isinstance(value, dict | None):
                raise AnalysisError(f"{file}: {name!r} is {shown(value)}, expected an object or null")
            for key, inner in shape.items():
                if value and key in value:
                    check(file, value[key], inner, key)


def _is_number(value: Any, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_text(value: Any) -> bool:
    """Lone surrogates, which JSON can spell, cannot be written to any file."""
    return isinstance(value, str) and len(value) <= MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)


TEXT = Kind(f"text of at most {MAX_TEXT} characters", _is_text)
TEXT_OR_NULL = Kind("text or null", lambda value: value is None or _is_text(value))
NUMBER = Kind("a number or null", lambda value: value is None or _is_number(value))
AMOUNT = Kind("a number of at least 0, or null", lambda value: value is None or _is_number(value, 0))
SHARE = Kind("a number between 0 and 1, or null", lambda value: value is None or _is_number(value, -1e-6, 1 + 1e-6))
COUNT = Kind(
    "a whole number of at least 0, or null",
    lambda value: value is None or (isinstance(value, int) and _is_number(value, 0, 1e15)),
)
WHOLE = Kind(
    "a whole number, or null",
    lambda value: value is None or (isinstance(value, int) and _is_number(value, -1e15, 1e15)),
)
TALLY = Kind(
    "a whole number of at least 0",
    lambda value: isinstance(value, int) and _is_number(value, 0, 1e15),
)
PROBABILITY = Kind("a number between 1e-6 and 0.5", lambda value: _is_number(value, 1e-6, 0.5))
HASH = Kind(
    "letters and digits",
    lambda value: isinstance(value, str) and value.isascii() and value.isalnum() and len(value) <= 128,
)
KEY = Kind("a run's key", lambda value: isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value)))
KEY_OR_NULL = Kind("a run's key, or null", lambda value: value is None or KEY.fits(value))
ROLE = Kind(f"one of {', '.join(ROLES)}", lambda value: value in ROLES)
FLAG = Kind("true, false or null", lambda value: value is None or isinstance(value, bool))
PLAIN = Kind(
    "a number, text, true, false or null",
    lambda value: value is None or isinstance(value, bool) or _is_number(value) or _is_text(value),
)

_TRANSFORMER: Mapping[str, Shape] = {
    "num_images": COUNT, "verdict": TEXT_OR_NULL, "identity_fraction": SHARE, "out_of_frame": SHARE,
    "condition": AMOUNT, "zoom": AMOUNT, "angle_deg": NUMBER, "angle_sd_deg": AMOUNT, "spread_px": AMOUNT,
    "pose": {
        "angle_error_deg": AMOUNT, "angle_r2": NUMBER, "log_scale_r2": NUMBER, "shift_r2": NUMBER,
        "shift_error_px": AMOUNT,
    },
}  # fmt: skip
RUN: Shape = {
    "error": TEXT_OR_NULL,
    "protocol_hash": HASH,
    "task": {"label": TEXT, "content_hash": HASH},
    "config": {
        "variant": TEXT, "pose": TEXT, "stage": TEXT, "seed": WHOLE, "protocol": Named(PLAIN),
        "optim": Named(PLAIN), "model": Named(PLAIN), "policy": Named(PLAIN),
    },
    "result": {
        "epochs": COUNT, "num_train_images": COUNT, "num_val_images": COUNT, "num_test_images": COUNT,
        "num_parameters": COUNT, "train_flops": AMOUNT, "val_accuracy": SHARE, "val_loss": NUMBER,
        "test_accuracy": SHARE, "test_loss": NUMBER, "test_ece": SHARE, "rotation_accuracy": SHARE,
        "corruption_accuracy": SHARE, "worst_of_grid_accuracy": SHARE,
        "transformer": _TRANSFORMER,
    },
}  # fmt: skip
COST: Shape = {
    "train_seconds": AMOUNT, "seconds": AMOUNT, "images_per_s": AMOUNT, "peak_memory_mib": AMOUNT,
    "device": TEXT_OR_NULL, "device_name": TEXT_OR_NULL, "threads": COUNT, "versions": Named(TEXT),
}  # fmt: skip
HISTORY: Shape = {"epoch": COUNT, "train_accuracy": SHARE, "val_accuracy": SHARE}
"""Each row."""
ROBUSTNESS: Shape = {
    "num_images": COUNT,
    "points": Rows({"kind": TEXT, "value": NUMBER, "accuracy": SHARE, "agreement": SHARE}),
    "worst_of_grid": {"max_deg": NUMBER, "max_px": NUMBER, "num_points": COUNT, "accuracy": SHARE},
    "corruptions": Rows({"kind": TEXT, "name": TEXT, "severity": COUNT, "accuracy": SHARE}),
}
ARM: Shape = {
    "pose": TEXT, "variant": TEXT, "baseline": TEXT, "trials": Rows(KEY), "finals": Rows(KEY),
    "role": ROLE, "words": TEXT, "pose_words": TEXT,
    "winner": KEY_OR_NULL, "winners": Rows(KEY_OR_NULL), "rungs": Rows(Rows(KEY)),
}  # fmt: skip
STUDY: Shape = {
    "budget": TEXT,
    "protocol_hash": HASH,
    "protocol": Named(PLAIN),
    "task": {"label": TEXT, "content_hash": HASH, "classes": Rows(TEXT)},
    "images": {"facts": Rows(Rows(TEXT)), "warnings": Rows(TEXT), "train": Rows(TALLY), "test": Rows(TALLY)},
    "overlap": {"num_test": COUNT, "num_other_label": COUNT},
    "arms": Rows(ARM),
    "rungs": Rows({"train_images": TALLY, "epochs": TALLY, "protocol_hash": HASH}),
    "tuned_at": COUNT,
    "claims": {"alpha": PROBABILITY, "margin": PROBABILITY},
    "sampler": TEXT_OR_NULL,
    "tuning": TEXT_OR_NULL,
    "source": {"file": TEXT_OR_NULL, "data": FLAG, "minutes": NUMBER, "turns": TEXT_OR_NULL, "mirror": TEXT_OR_NULL},
}  # fmt: skip
