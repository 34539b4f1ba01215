"""Numbers in words."""

import math
from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int, what: str) -> str:
    """Such as `1 trial`, `3 trials` and `3 studies`."""
    many = f"{what[:-1]}ies" if what[-1:] == "y" and what[-2:-1] not in "aeiou" else f"{what}s"
    return f"{number:,} {what if number == 1 else many}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`. last: the word before the last one."""
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
