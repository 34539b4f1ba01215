"""Scores over tuning budgets, against brute force and known expectations."""

import itertools
import math

import numpy as np
import pytest

from analysis.statistics.tuning import tuning_budget

NAN = math.nan


@pytest.mark.parametrize("num", [1, 2, 7])
def test_the_best_of_n_trials_is_the_mean_over_all_sets_of_n(num: int) -> None:
    scores = np.random.default_rng(3).uniform(0, 1, num).round(1).tolist()
    found = tuning_budget(scores)
    expected = [np.mean([max(drawn) for drawn in itertools.combinations(scores, n)]) for n in range(1, num + 1)]
    np.testing.assert_allclose(found.best_N, expected, rtol=1e-12)
    assert (found.low_N <= found.high_N).all()


def test_the_tuning_budget_is_unbiased() -> None:
    # The best of n draws from 0 to 1 is n / (n + 1) in the mean; Dodge et al.'s estimator says less, by 0.021 at n = 10
    draw = np.random.default_rng(4)
    best_XN = np.array([tuning_budget(draw.uniform(0, 1, 10)).best_N for _ in range(300)])
    n_N = np.arange(1, 11)
    np.testing.assert_allclose(best_XN.mean(axis=0), n_N / (n_N + 1), atol=0.015)
    biased = sum(i / 11 * ((i / 10) ** 10 - ((i - 1) / 10) ** 10) for i in range(1, 11))
    assert 10 / 11 - biased > 0.03


def test_how_often_the_tuning_budgets_interval_covers() -> None:
    draw = np.random.default_rng(5)
    found = [tuning_budget(draw.uniform(0, 1, 24)) for _ in range(100)]
    for n in (1, 5):
        true = n / (n + 1)
        assert 0.88 <= np.mean([each.low_N[n - 1] <= true <= each.high_N[n - 1] for each in found]) <= 0.99


def test_tuning_budgets_of_many_trials_and_of_none() -> None:
    found = tuning_budget([*np.linspace(0, 1, 999), NAN])
    assert found.best_N.shape == (999,)
    assert found.best_N[-1] == pytest.approx(1)
    assert (np.diff(found.best_N) >= 0).all()
    assert tuning_budget([NAN, NAN]).best_N.size == 0
