"""Means and paired differences against SciPy and a worked example."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import mean_interval, paired_difference

NAN = math.nan


def test_worked_example() -> None:
    # 0.50, 0.52, 0.54: mean 0.52, s = 0.02, t(2) = 4.302653, half width 4.302653 * 0.02 / sqrt(3)
    mean, half_width, num = mean_interval([0.50, 0.52, 0.54])
    assert mean == pytest.approx(0.52)
    assert half_width == pytest.approx(0.0496826, rel=1e-5)
    assert num == 3


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 8, 30])
def test_mean_interval_is_scipys(num_seeds: int) -> None:
    score_XS = np.random.default_rng(num_seeds).normal(0.6, 0.02, size=(4, 3, num_seeds))
    estimate = mean_interval(score_XS)
    assert estimate.mean_X.shape == estimate.half_width_X.shape == estimate.num_X.shape == (4, 3)
    low, high = stats.t.interval(
        0.95, num_seeds - 1, loc=score_XS.mean(axis=-1), scale=stats.sem(score_XS, axis=-1)
    )  # fmt: skip
    np.testing.assert_allclose(estimate.mean_X - estimate.half_width_X, low, rtol=1e-12)
    np.testing.assert_allclose(estimate.mean_X + estimate.half_width_X, high, rtol=1e-12)


def test_paired_difference_is_scipys() -> None:
    rng = np.random.default_rng(0)
    baseline_S, score_S = rng.normal(0.6, 0.02, 7), rng.normal(0.61, 0.02, 7)
    mean, half_width, num = paired_difference(score_S, baseline_S)
    interval = stats.ttest_rel(score_S, baseline_S).confidence_interval(0.95)
    assert (mean - half_width, mean + half_width) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert num == 7


def test_pairing_removes_what_seeds_share() -> None:
    seed_S = np.array([0.1, 0.5, 0.9, 0.3])
    mean, half_width, _ = paired_difference(seed_S + np.array([0.010, 0.011, 0.009, 0.010]), seed_S)
    assert mean == pytest.approx(0.01)
    assert half_width < 0.002 < mean_interval(seed_S).half_width_X


def test_absent_seeds_are_left_out() -> None:
    np.testing.assert_allclose(mean_interval([0.5, NAN, 0.6, NAN, 0.7])[:2], mean_interval([0.5, 0.6, 0.7])[:2])
    mean, half_width, num = paired_difference([0.5, 0.6, NAN, 0.9], [0.4, NAN, 0.3, 0.7])
    assert mean == pytest.approx(0.15)
    assert num == 2
    assert half_width == pytest.approx(stats.t.ppf(0.975, 1) * 0.05)


@pytest.mark.filterwarnings("error")
def test_too_few_seeds_have_no_interval() -> None:
    one, none = mean_interval([[0.5, NAN]]), mean_interval([[NAN, NAN]])
    assert (one.mean_X[0], one.num_X[0], none.num_X[0]) == (0.5, 1, 0)
    assert np.isnan([one.half_width_X[0], none.mean_X[0], none.half_width_X[0]]).all()
    assert mean_interval(np.empty((3, 0))).num_X.tolist() == [0, 0, 0]


def test_equal_scores_have_an_interval_of_no_width() -> None:
    mean, half_width, _ = paired_difference([0.5, 0.25, 0.75], [0.5, 0.25, 0.75])
    assert mean == 0
    assert half_width == 0
