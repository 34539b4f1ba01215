"""Fields of dataclasses that take numbers of a range: `max_deg: float = within(0, 180, 15.0)`."""

import dataclasses
import math
from typing import Any, Literal, TypeVar

Number = TypeVar("Number", int, float)


def within(
    low: float,
    high: float,
    default: Number,
    *,
    ends: Literal["[]", "(]", "()"] = "[]",
    or_zero: bool = False,
    **metadata: Any,
) -> Number:
    """A field for numbers from low to high. ends: a round bracket leaves that end out. or_zero: 0 is one more."""
    return dataclasses.field(default=default, metadata={"range": (low, high, ends, or_zero), **metadata})


def at_least(low: float, default: Number, **metadata: Any) -> Number:
    """A field for finite numbers of low or more."""
    return within(low, math.inf, default, **metadata)


class Ranged:
    """Base of the dataclasses that have such fields. Raises ValueError for a value outside its field's range."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if "range" not in field.metadata:
                continue
            value, (low, high, ends, or_zero) = getattr(self, field.name), field.metadata["range"]
            is_inside = low <= value <= high and (value > low or ends[0] == "[") and (value < high or ends[1] == "]")
            if (is_inside and value < math.inf) or (or_zero and value == 0):
                continue
            bounds = f"above {low} and up to {high}" if ends == "(]" else f"between {low} and {high}"
            if high == math.inf:
                bounds = f"a number of {low} or more"
            raise ValueError(f"{field.name}: {value} is not {'0 or ' * or_zero}{bounds}")
