"""Fields of dataclasses that take numbers of a range: `max_deg: float = within(0, 180, 15.0)`."""

import dataclasses
from typing import Literal, TypeVar

Number = TypeVar("Number", int, float)


def within(low: float, high: float, default: Number, *, ends: Literal["[]", "(]", "()"] = "[]") -> Number:
    """A field for numbers from low to high. ends: a round bracket leaves that end out."""
    return dataclasses.field(default=default, metadata={"range": (low, high, ends)})


class Ranged:
    """Base of the dataclasses that have such fields. Raises ValueError for a value outside its field's range."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if "range" not in field.metadata:
                continue
            value, (low, high, ends) = getattr(self, field.name), field.metadata["range"]
            if not (low <= value <= high and (value > low or ends[0] == "[") and (value < high or ends[1] == "]")):
                bounds = f"above {low} and up to {high}" if ends == "(]" else f"between {low} and {high}"
                raise ValueError(f"{field.name}: {value} is not {bounds}")
