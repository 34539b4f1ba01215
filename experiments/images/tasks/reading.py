"""How a task's images came to be: what was read and what was not, so that every plan and report can show it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

GROUNDS = ("white", "black", "grey")
"""What transparent parts are drawn over."""


@dataclass(frozen=True)
class ToRgb:
    """How a folder's images become RGB of 8 bits a channel: all of them in one way, whatever each of them holds.

    grey_bits: of a value of 16 bits, in grey or colour, as many as are used: its scale to 8 bits follows from it.
    ground: one of GROUNDS.
    """

    grey_bits: int = 16
    ground: str = "white"

    def __post_init__(self) -> None:
        if not (type(self.grey_bits) is int and 8 <= self.grey_bits <= 16 and self.ground in GROUNDS):
            raise ValueError(f"{self} is not a way to read images")

    def record(self) -> dict[str, int | str]:
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
