"""Whether a run of the ledger is what the same run comes to when it is made again, and in which fields it is not."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from PIL import Image

from ledger.files import to_json
from ledger.forms import shown
from ledger.run_audit import KNOWN
from ledger.scores import RESULT

REPEATED = sorted(KNOWN - {"cost.json"})
"""Files that are the same bytes in every repetition: all but what is measured, and its checksum."""
MAX_NAMED = 3
"""Fields of one file."""
ABSENT = "absent"


def differences(recorded: Path, again: Path) -> Iterator[tuple[str, str]]:
    """Files of a run that are others when it is made again, and in what. The arguments are the run's two folders.

    What the recorded run lacks is not looked at: the audit says what is missing, and scores may have come later than
    the run. Of pictures the pixels count: Pillow's version, which is not recorded, decides how they are packed.
    """
    for name in REPEATED:
        was, now = (folder / name for folder in (recorded, again))
        if not was.exists():
            continue
        if not now.exists():
            yield name, "is there, and the run has none when it is made again"
        elif fields := list(_differing_fields(name, was.read_bytes(), now.read_bytes())):
            more = len(fields) - MAX_NAMED
            yield name, ", ".join(fields[:MAX_NAMED]) + (f", and {more:,} more" if more > 0 else "")


def _differing_fields(name: str, was: bytes, now: bytes) -> Iterator[str]:
    """Fields in words; none where the two files say the same."""
    if was == now:
        return
    match Path(name).suffix:
        case ".json":
            value, repeated = json.loads(was), json.loads(now)
            if name == "run.json":
                leave_out_later_scores(repeated, value)
            if to_json(repeated) != was:
                yield from list(_values(value, repeated)) or ["has the same values in other bytes"]
        case ".safetensors":
            tensors = (safetensors.numpy.load(content) for content in (was, now))
            yield from list(_tensors(*tensors)) or ["has the same numbers in other bytes"]
        case _:
            yield from _pixels(was, now)


def leave_out_later_scores(run: dict[str, Any], other: dict[str, Any]) -> None:
    """Take out of what one run.json says what the other, which may be older, could not say."""
    for score in RESULT:
        if score.is_later and score.name not in (other.get("result") or {}):
            (run.get("result") or {}).pop(score.name, None)


def _values(was: Any, now: Any, where: str = "") -> Iterator[str]:
    match was, now:
        case dict(), dict():
            pairs = [(name, was.get(name, ABSENT), now.get(name, ABSENT)) for name in {**was, **now}]
        case list(), list() if len(was) == len(now):
            pairs = list(zip(range(len(was)), was, now, strict=True))
        case _:
            if repr(was) != repr(now):
                yield f"{where or 'its value'} is {shown(was)}, and {shown(now)} when made again"
            return
    for name, one, other in pairs:
        yield from _values(one, other, f"{where}.{name}" if where else str(name))


def _tensors(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name in {**was, **now}:
        if name not in was or name not in now:
            yield f"{name} is in one of the two only"
            continue
        one, other = was[name], now[name]
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            yield f"{name} is {one.dtype} {one.shape}, and {other.dtype} {other.shape} when made again"
        elif num := int(((one != other) & ((one == one) | (other == other))).sum()):
            yield f"{num:,} of {one.size:,} numbers in {name}"


def _pixels(was: bytes, now: bytes) -> Iterator[str]:
    with Image.open(io.BytesIO(was)) as one, Image.open(io.BytesIO(now)) as other:
        if one.size != other.size:
            yield f"is of {one.size} pixels, and of {other.size} when made again"
        elif num := int((np.asarray(one.convert("RGB")) != np.asarray(other.convert("RGB"))).any(axis=2).sum()):
            yield f"{num:,} of {one.width * one.height:,} pixels"
