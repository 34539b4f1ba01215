"""Standings: ties, ranks and what a board resolves, against scipy and by simulation."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.standing import Difference, difference, resolution, standing

NUM_SEEDS = 6


def test_pairs_and_strangers_have_the_tests_of_scipy() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(0.5, 0.02, 7), draw.normal(0.52, 0.05, 5)
    by_seed = [dict(enumerate(scores.tolist())) for scores in (one, other)]
    paired = difference(*by_seed, paired=True)
    assert paired.p == pytest.approx(stats.ttest_rel(one[:5], other).pvalue)
    welch, expected = difference(*by_seed, paired=False), stats.ttest_ind(one, other, equal_var=False)
    assert (welch.p, welch.freedom) == (pytest.approx(expected.pvalue), pytest.approx(expected.df))
    assert welch.mean == pytest.approx(one.mean() - other.mean())


def test_scores_without_scatter_and_too_few_scores() -> None:
    same, higher = {1: 0.5, 2: 0.6}, {1: 0.75, 2: 0.85}
    assert difference(same, same, paired=True).p == 1
    assert difference(higher, same, paired=True).p == 0
    assert difference({1: 0.5, 2: 0.5}, {3: 0.5, 4: 0.5}, paired=False).p == 1
    for paired in (True, False):
        assert np.isnan(difference({1: 0.5}, {1: 0.6}, paired=paired).p)
    assert np.isnan(difference({1: 0.5, 2: 0.5}, {3: 0.5, 4: 0.5}, paired=True).p), "no seed in common"


def test_a_rank_counts_those_that_are_shown_to_be_better() -> None:
    """a and b are above c, and d is told apart from nothing."""
    sure, unsure = Difference(0.1, 0.001, 9), Difference(0.1, 0.2, 9)
    found = standing([unsure, sure, unsure, sure, unsure, unsure], [True] * 6, 0.05)
    assert (found.rank_E.tolist(), found.last_E.tolist()) == ([1, 1, 3, 1], [3, 3, 4, 4])
    assert standing([sure, sure, sure], [True, False, True], 0.05).rank_E.tolist() == [1, 2, 2], (
        "one that may not count"
    )
    assert standing([], [], 0.05).rank_E.tolist() == [1]


def board(means: list[float], draw: np.random.Generator, *, same_seeds: bool) -> list[Difference]:
    """Differences of entries whose scores scatter by 0.01, a half of it luck of the seed that those share."""
    luck_S = draw.normal(0, 0.5**0.5, NUM_SEEDS)
    scores = []
    for number, mean in enumerate(means):
        shared_S = luck_S if same_seeds else draw.normal(0, 0.5**0.5, NUM_SEEDS)
        score_S = mean + 0.01 * (shared_S + draw.normal(0, 0.5**0.5, NUM_SEEDS))
        scores.append(dict(enumerate(score_S.tolist(), 0 if same_seeds else 100 * number)))
    return [difference(*pair, paired=same_seeds) for pair in combinations(scores, 2)]


@pytest.mark.parametrize("same_seeds", [True, False])
@pytest.mark.parametrize("num", [2, 5])
def test_a_difference_of_the_resolution_is_found_in_four_of_five_boards(num: int, same_seeds: bool) -> None:
    draw = np.random.default_rng(1)
    boards = [board([0.5] * num, draw, same_seeds=same_seeds) for _ in range(300)]
    resolved = float(np.sqrt(np.mean([resolution(each, len(each), 0.05) ** 2 for each in boards])))
    sd = 0.01 if same_seeds else 0.01 * 2**0.5  # of a difference
    assert 2 * sd / NUM_SEEDS**0.5 < resolved < 8 * sd / NUM_SEEDS**0.5
    found = []
    for _ in range(500):
        ranks = standing(
            board([0.5 + resolved] + [0.5] * (num - 1), draw, same_seeds=same_seeds),
            [True] * (num * (num - 1) // 2),
            0.05,
        )
        found.append(ranks.rank_E[1] > 1)
    # Of several that lie so far below, those that are found make it easier to find the others.
    assert 0.75 <= np.mean(found) <= (0.85 if num == 2 else 0.92)


@pytest.mark.parametrize("same_seeds", [True, False])
def test_equals_share_the_first_rank_and_true_ranks_are_held(same_seeds: bool) -> None:
    draw = np.random.default_rng(2)
    for means, true_E in (([0.5] * 4, np.ones(4)), ([0.53, 0.51, 0.51, 0.5], np.array([1, 2, 2, 4]))):
        held = []
        for _ in range(300):
            found = standing(board(means, draw, same_seeds=same_seeds), [True] * 6, 0.05)
            held.append(((found.rank_E <= true_E) & (true_E <= found.last_E)).all())
        assert np.mean(held) >= 0.93


def test_a_level_that_no_test_reaches_resolves_nothing() -> None:
    assert resolution([Difference(0.1, 0.01, 1)], 5_000, 0.05) == np.inf
    assert 10 * 0.01 < resolution([Difference(0.1, 0.01, 2)], 5_000, 0.05) < np.inf
