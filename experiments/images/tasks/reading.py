"""How a task's images came to be: what was read and what was not, so that every plan and report can show it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GROUNDS = ("white", "black", "grey")
"""What transparent parts are drawn over."""


@dataclass(frozen=True)
class ToRgb:
    """How a folder's images become RGB of 8 bits a channel: all of them in one way, whatever each of them holds.

    grey_bits: of a value of 16 bits, in grey or colour, as many as are used: its scale to 8 bits follows from it.
    ground: one of GROUNDS. float_range: of grey in floating point, what becomes black and white; None without such.
    """

    grey_bits: int = 16
    ground: str = "white"
    float_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        low, high = self.float_range or (0.0, 1.0)
        is_range = math.isfinite(low) and math.isfinite(high) and low < high
        if not (type(self.grey_bits) is int and 8 <= self.grey_bits <= 16 and self.ground in GROUNDS and is_range):
            raise ValueError(f"{self} is not a way to read images")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "ToRgb":
        """The way that a record tells; names of other things in it do not matter. Raises ValueError, TypeError."""
        values = {field.name: record[field.name] for field in dataclasses.fields(cls) if field.name in record}
        if span := values.get("float_range"):
            values["float_range"] = tuple(span)
        return cls(**values)

    def record(self) -> dict[str, Any]:
        """What differs from the usual way, by name."""
        ways = dataclasses.asdict(self).items()
        return {name: value for name, value in ways if value != getattr(USUAL, name)}


USUAL = ToRgb()


@dataclass(frozen=True)
class Reading:
    """What was found where a task's images lie; the same whether they were decoded now or come from the cache.

    facts: heading and text, such as ("Parts", "training from Training/, test from Testing/, by their names").
    warnings: sentences, each on something because of which an answer may not be what it seems, and what to do.
    """

    facts: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    to_rgb: ToRgb = USUAL
