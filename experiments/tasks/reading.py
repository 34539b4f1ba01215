"""How a task's images came to be: what was read and what was not, so that every plan and report can show it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """What was found where a task's images lie; the same whether they were decoded now or come from the cache.

    facts: heading and text, such as ("Parts", "training from Training/, test from Testing/, by their names").
    warnings: sentences, each on something because of which an answer may not be what it seems, and what to do.
    grey_bits: of a 16-bit grey value, as many as are used: its scale to 8 bits follows from it. 16 where there is none.
    """

    facts: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    grey_bits: int = 16
