"""One mean over seeds with its interval, and how people read it."""

import math
from typing import NamedTuple

from analysis.formats import ABSENT, Cell
from analysis.statistics import Estimate

MIN_SEEDS = 3
"""Seeds that an interval takes: that of two reaches 12.7 standard errors to each side, and says nothing."""


class Mean(NamedTuple):
    """A mean over seeds with the half width of its 95 % interval (NaN under MIN_SEEDS) and the number of seeds."""

    value: float
    half_width: float
    num: int

    @property
    def excludes_zero(self) -> bool:
        return abs(self.value) > self.half_width + 1e-12  # sums of fractions that cancel leave less than that


def mean_of(estimate: Estimate, i: int) -> Mean:
    """The i-th of means along one axis."""
    num = int(estimate.num_X[i])
    return Mean(float(estimate.mean_X[i]), float(estimate.half_width_X[i]) if num >= MIN_SEEDS else math.nan, num)


def mean_text(mean: Mean, decimals: int, *, signed: bool = False, dash: bool = False) -> str:
    """`54.3 ± 0.6`; without an interval where there is none; a dash where there is no mean.

    dash: `54.3 ± —` of a mean over too few seeds for an interval.
    """
    if not mean.num:
        return ABSENT
    text = f"{mean.value:{'+' if signed else ''}.{decimals}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    text = text.replace("-", "−")
    if not math.isnan(mean.half_width):
        return f"{text} ± {mean.half_width:.{decimals}f}"
    return f"{text} ± {ABSENT}" if dash and 1 < mean.num < MIN_SEEDS else text


def percent_text(mean: Mean, *, signed: bool = False, dash: bool = False) -> str:
    """A mean of fractions as mean_text has it, in per cent with one decimal."""
    return mean_text(Mean(100 * mean.value, 100 * mean.half_width, mean.num), 1, signed=signed, dash=dash)


def percent(fraction: float) -> str:
    """In whole per cent: `−12`."""
    return str(round(100 * fraction)).replace("-", "−")


def mean_cell(
    mean: Mean, decimals: int = 1, *, factor: float = 100, signed: bool = False, dash: bool = True, mark: str = ""
) -> Cell:
    """The mean times a factor, in per cent by default, which sorts by the mean. mark: what follows it."""
    scaled = Mean(factor * mean.value, factor * mean.half_width, mean.num)
    return Cell(mean_text(scaled, decimals, signed=signed, dash=dash) + mark, mean.value)
