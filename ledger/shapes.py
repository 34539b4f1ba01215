"""What the ledger's JSON must hold for programs that go on with it: anybody may have written these files."""

import json
import re
from pathlib import Path
from typing import Any, TypeGuard

from ledger.errors import UserError
from ledger.roles import ROLES


def read_json(path: Path) -> Any:
    """The file's value. Raises OSError where it cannot be read, UserError where it is no JSON."""
    return parse_json(path, path.read_bytes())


def parse_json(path: Path, content: bytes) -> Any:
    """The value of what was read from the file. Raises UserError where it is no JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: is not JSON; {who_knows(path)}") from None


def who_knows(path: Path) -> str:
    """The hint that ends a message about a run's or a study's file."""
    ledger = path.parents[min(2, len(path.parents) - 1)]
    return f"`python -m experiments verify {ledger}` says what to do"


MAX_TEXT, MAX_NUMBER = 10_000, 1e60
"""As in analysis/shapes.py, which judges the same files."""


def is_number(value: Any, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> bool:
    """Finite, and of a size that can be computed with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_amount(value: Any) -> bool:
    return is_number(value, 0)


def is_share(value: Any) -> bool:
    """A fraction, but for rounding."""
    return is_number(value, -1e-6, 1 + 1e-6)


def is_whole(value: Any) -> TypeGuard[int]:
    """A whole number that any other program can read, too."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def is_count(value: Any) -> bool:
    return is_whole(value) and is_number(value, 0, 1e15)


def is_key(value: Any) -> bool:
    """A run's key: a folder in the ledger, and never one beside it."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) is not None


def is_text(value: Any) -> bool:
    """Of some length at most, and without lone surrogates, which no file and no terminal takes."""
    return isinstance(value, str) and len(value) <= MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)


def is_hash(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isalnum() and len(value) <= 128


_TASK = {"label": is_text, "content_hash": is_hash}
_ARM = {"pose": is_text, "variant": is_text, "trials": [is_key], "finals": [is_key]}
SHAPES: dict[str, Any] = {
    "run.json": {"format": is_whole, "status": is_text},
    "history.json": [{"val_accuracy": (is_share, None)}],
    "cost.json": {},
    "study.json": {
        "format": is_whole, "budget": is_text, "protocol_hash": is_hash, "task": _TASK, "wandb_project": is_text,
        "study": is_text, "num_trials": is_whole, "num_finals": is_whole,
        "arms": [(_ARM | {"winners": [(is_key, None)]}, _ARM | {"winner": (is_key, None)})],
    },
}  # fmt: skip
"""By the file's name: names with what they must hold; None for null, several in a tuple, a list for a list of such."""
OPTIONAL: dict[str, Any] = {
    "run.json": {
        "error": (is_text, None), "config": ({"protocol": ({}, None)}, None),
        "result": ({"val_accuracy": (is_share, None), "test_accuracy": (is_share, None)}, None),
    },
    "study.json": {
        "protocol": {}, "found": {}, "first": ({"spaces": {}}, None), "spaces": {},
        "arms": [{"rungs": [[is_key]], "role": ROLES.__contains__, "words": is_text, "pose_words": is_text}],
        "rungs": [{"protocol_hash": is_hash, "train_images": is_count, "epochs": is_count}],
        "tuned_at": (is_count, None),
        "images": {"facts": [[is_text]], "warnings": [is_text], "train": [is_count], "test": [is_count]},
    },
    "history.json": [{"train_accuracy": (is_share, None)}],
    "cost.json": dict.fromkeys(("seconds", "images_per_s", "train_seconds", "peak_memory_mib"), (is_amount, None)),
}  # fmt: skip
"""The same of names that may be absent."""


def check(path: Path, value: Any, *, whole: bool = True) -> None:
    """Raises UserError unless the value is as files of that name are. whole: nothing that is needed may be absent."""
    if what := misfit(path.name, value, whole=whole):
        raise UserError(f"{path}: {what}; {who_knows(path)}")


def misfit(name: str, value: Any, *, whole: bool = True) -> str:
    """What is wrong with the value of a file of that name, in words; "" where nothing is."""
    found = _misfit(value, SHAPES[name], whole)
    found = _misfit(value, OPTIONAL[name], False) if found is None and name in OPTIONAL else found
    return "" if found is None else f"{found!r} is not as it was written" if found else "is not as it was written"


def _misfit(value: Any, shape: Any, whole: bool) -> str | None:
    """The dotted name of something that does not fit, "" for the value itself; None where all is well."""
    match shape:
        case dict():
            if not isinstance(value, dict):
                return ""
            for name, inner in shape.items():
                found = _misfit(value[name], inner, whole) if name in value else "" if whole else None
                if found is not None:
                    return f"{name}.{found}".strip(".")
            return None
        case list():
            if not isinstance(value, list):
                return ""
            return next((found for each in value if (found := _misfit(each, shape[0], whole)) is not None), None)
        case tuple():
            misfits = [_misfit(value, each, whole) for each in shape]
            return None if None in misfits else misfits[0]
        case None:
            return None if value is None else ""
        case _:
            return None if shape(value) else ""
