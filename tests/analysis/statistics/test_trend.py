"""Whether a difference still changes: what is said, and how often it is said wrongly."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from analysis.statistics.trend import trends

NOISE = np.array([-0.006, -0.003, 0.0, 0.002, 0.003, 0.004, 0.0])
"""Of seven seeds."""


def claim(*means: float) -> npt.NDArray[np.float64]:
    """Differences at rungs of these means, over seven seeds whose luck is another at each rung."""
    return np.array([mean + np.roll(NOISE, 3 * r) - NOISE.mean() for r, mean in enumerate(means)])


@pytest.mark.parametrize(
    ("means", "direction"),
    [
        ((-0.02, 0.010, 0.0102), "settled"),  # it turned before
        ((0.03, 0.0200, 0.0201), "settled"),
        ((0.00, 0.0400, 0.0800), "moving"),
        ((-0.08, -0.05, -0.035), "moving"),
        ((-0.08, -0.05, -0.010), "turning"),  # once more as much leads to +0.03
        ((-0.05, -0.02, 0.02), "turning"),
    ],
)
def test_what_is_said_of_a_claim(means: tuple[float, ...], direction: str) -> None:
    assert trends(claim(*means)[None], 0.05, 0.01)[0].direction == direction


def test_nothing_is_said_where_luck_is_larger_than_the_margin() -> None:
    assert trends(5 * claim(0.0, 0.0, 0.001)[None], 0.05, 0.01)[0].direction == "open"


def test_the_tests_are_those_of_the_last_change() -> None:
    found = trends(claim(0.0, 0.02, 0.023)[None], 0.05, 0.01)[0]
    low, high = claim(0.0, 0.02, 0.023)[1:]
    assert found.p_moving == pytest.approx(ttest_rel(high, low).pvalue)
    sides = [
        ttest_1samp(high - low, -0.01, alternative="greater").pvalue,
        ttest_1samp(high - low, 0.01, alternative="less").pvalue,
    ]
    assert found.p_settled == pytest.approx(max(sides))


def test_two_claims_are_corrected_for_each_other() -> None:
    both = trends(np.stack([claim(0.0, 0.02, 0.023), claim(0.0, 0.01, 0.05)]), 0.05, 0.01)
    alone = trends(claim(0.0, 0.02, 0.023)[None], 0.05, 0.01)[0]
    assert both[0].p_settled == pytest.approx(2 * alone.p_settled)
    assert both[0].p_moving == pytest.approx(alone.p_moving)  # the other one's is smaller


def test_seeds_that_a_rung_lacks_count_nowhere_and_two_say_nothing() -> None:
    whole = claim(0.0, 0.02, 0.0201)
    gap = np.concatenate([whole, [[9.0], [np.nan], [9.0]]], axis=1)
    assert trends(gap[None], 0.05, 0.01) == trends(whole[None], 0.05, 0.01)
    few = trends(whole[None, :, :2], 0.05, 0.01)[0]
    assert few.direction == "open" and np.isnan([few.p_settled, few.p_moving]).all()


@pytest.mark.parametrize("num_seeds", [5, 7, 12, 20])
def test_what_is_said_wrongly_is_rare(num_seeds: int) -> None:
    """At the worst places: a change as large as the margin, none at all, and one that leads to zero and no further."""
    draw = np.random.default_rng(num_seeds)
    num, wrong = 400, {"settled": 0, "moving": 0, "turning": 0}
    for name, means in {
        "settled": (0.00, 0.02, 0.03),
        "moving": (0.03, 0.03, 0.03),
        "turning": (0.04, 0.02, 0.01),
    }.items():
        for _ in range(num):
            luck_CRS = draw.normal(0, 0.006, (3, 3, num_seeds))
            found = trends(np.array(means)[:, None] + luck_CRS, 0.05, 0.01)
            wrong[name] += any(each.direction == name for each in found)
    assert max(wrong.values()) <= 0.05 * num + 2.6 * (0.05 * 0.95 * num) ** 0.5, wrong
