"""Ranks over tasks and shares of runs above a score, against enumeration and other libraries."""

import itertools

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.ranks import profile, ranks

TWO = [np.array([[0.5, 0.6, 0.4], [0.45, 0.7, 0.5], [0.1, 0.2, 0.1]]), np.array([[0.9, 0.8], [0.7, 0.9], [0.95, 0.7]])]


def test_ranks_of_a_page_in_a_book() -> None:
    """Means 0.5, 0.55, 0.1333 and 0.85, 0.8, 0.825."""
    found = ranks(TWO, "ab")
    np.testing.assert_array_equal(found.rank_TV, [[2, 1, 3], [1, 3, 2]])
    np.testing.assert_array_equal(found.mean_V, [1.5, 2, 2.5])
    same = ranks([np.array([[0.3, 0.2], [0.2, 0.3], [0.1, 0.1]])], "a")
    np.testing.assert_array_equal(same.rank_TV, [[1.5, 1.5, 3]])


def test_the_range_over_seeds_is_that_of_all_possible_draws() -> None:
    """Every draw of three seeds of the first task with every one of two of the second: 27 x 4 mean ranks."""
    means = []
    for first, second in itertools.product(
        itertools.product(range(3), repeat=3), itertools.product(range(2), repeat=2)
    ):
        of_draw = [
            score[:, list(seeds)].mean(axis=1).round(12) for score, seeds in zip(TWO, (first, second), strict=True)
        ]
        means.append(np.mean([stats.rankdata(-mean) for mean in of_draw], axis=0))
    low_V, high_V = np.quantile(means, [0.025, 0.975], axis=0, method="inverted_cdf")
    found = ranks(TWO, "ab").of_seeds
    np.testing.assert_allclose(found.low_X, low_V)
    np.testing.assert_allclose(found.high_X, high_V)


def test_one_task_at_two_sizes_is_one_task() -> None:
    found = ranks(TWO, "aa")
    np.testing.assert_array_equal(found.of_tasks.low_X, found.of_seeds.low_X)
    np.testing.assert_array_equal(found.of_tasks.high_X, found.of_seeds.high_X)
    other = ranks(TWO, "ab").of_tasks
    assert (other.high_X - other.low_X > found.of_tasks.high_X - found.of_tasks.low_X).any()


def test_where_nothing_varies_the_range_is_a_point() -> None:
    with np.errstate(all="raise"):
        point = ranks([np.array([[1.0, 1.0], [0.0, 0.0]])], "a").of_seeds
    assert (point.low_X == [1, 2]).all() and (point.high_X == [1, 2]).all()


def test_a_share_counts_runs_that_are_above_and_every_task_the_same() -> None:
    above_K = [0.2, 0.5, 0.9]
    found = profile([[[0.1, 0.5, 0.6, 0.95]], [[0.6]]], above_K)  # one variant: four runs of a task, one of another
    np.testing.assert_allclose(found.share_VK, [[(0.75 + 1) / 2, (0.5 + 1) / 2, (0.25 + 0) / 2]])


def test_the_bounds_of_a_share_are_those_of_drawing_runs_again() -> None:
    found = profile([[np.arange(10) / 10]], [0.45, 2.0])
    assert found.low_VK[0] == pytest.approx([stats.binom.ppf(0.025, 10, 0.5) / 10, 0])
    assert found.high_VK[0] == pytest.approx([stats.binom.ppf(0.975, 10, 0.5) / 10, 0])
