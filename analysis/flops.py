"""Floating-point operations as people read them."""

import math
from collections.abc import Iterable

from analysis.formats import ABSENT, Cell

_UNITS = ((18, "EFLOP"), (15, "PFLOP"), (12, "TFLOP"), (9, "GFLOP"), (6, "MFLOP"), (3, "kFLOP"), (0, "FLOP"))


def flop_unit(flops: Iterable[float | None]) -> tuple[int, str]:
    """One unit for a whole column, so that rows compare at a glance: the one that fits the largest."""
    largest = max((number or 0.0 for number in flops), default=0.0)
    return next((unit for unit in _UNITS if largest >= 10 ** unit[0]), _UNITS[-1])


def flop_cell(flops: float | None, unit: tuple[int, str]) -> Cell:
    """`1.93 TFLOP`, with three digits where they fit into four decimals."""
    if flops is None:
        return Cell(ABSENT)
    exponent, name = unit
    scaled = flops / 10**exponent
    decimals = 2 - math.floor(math.log10(scaled)) if scaled > 0 else 0
    return Cell(f"{scaled:,.{min(max(decimals, 0), 4)}f} {name}", flops)


def count_cell(number: float | None) -> Cell:
    """`243,146`."""
    return Cell(ABSENT) if number is None else Cell(f"{number:,.0f}", number)
