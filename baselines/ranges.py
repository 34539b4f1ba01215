"""Fields of dataclasses that take numbers of a range: `max_deg: float = within(0, 180, 15.0)`."""

import dataclasses
from typing import Literal, TypeVar

Number = TypeVar("Number", int, float)


def within(
    low: float, high: float, default: Number, *, ends: Literal["[]", "(]", "()"] = "[]", or_zero: bool = False
) -> Number:
    """A field for numbers from low to high. ends: a round bracket leaves that end out. or_zero: 0 is one more."""
    return dataclasses.field(default=default, metadata={"range": (low, high, ends, or_zero)})


class Ranged:
    """Base of the dataclasses that have such fields. Raises ValueError for a value outside its field's range."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if "range" not in field.metadata:
                continue
            value, (low, high, ends, or_zero) = getattr(self, field.name), field.metadata["range"]
            is_inside = low <= value <= high and (value > low or ends[0] == "[") and (value < high or ends[1] == "]")
            if not (is_inside or (or_zero and value == 0)):
                bounds = f"above {low} and up to {high}" if ends == "(]" else f"between {low} and {high}"
                raise ValueError(f"{field.name}: {value} is not {'0 or ' * or_zero}{bounds}")
