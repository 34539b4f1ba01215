"""Columns of scores in which the best is bold and those that cannot be told apart from it have a mark."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from analysis.formats import Cell
from analysis.means import Mean, mean_cell, mean_of
from analysis.records import Arm, Study
from analysis.scores import SHOWN
from analysis.statistics import Floats, mean_interval
from analysis.statistics.ties import best_of
from analysis.tables.columns import Column
from ledger.names import variant_parts
from ledger.scores import Score
from ledger.wording import listed

TIED = "†"


class Ranked(NamedTuple):
    """An arm in a column of scores. is_best, is_tied: with the best. p: of its difference to the best."""

    cell: Cell
    mean: Mean
    is_best: bool
    is_tied: bool
    p: float


class ScoreColumn(NamedTuple):
    """A column of the scores of all arms. score: how it is printed; intervals: whether they are shown.

    ranking: whether one arm is the best, and marked.
    """

    heading: str
    score_AS: Floats
    score: Score = SHOWN[0]
    intervals: bool = False
    ranking: bool = True


class Place(NamedTuple):
    """An arm, by its index, in columns of scores. keys: of its runs that they are over."""

    arm: int
    pose: str
    variant: str
    keys: tuple[str, ...]
    scores: list[Ranked]


def places_of(
    study: Study, arms: Sequence[int], keys: Sequence[tuple[str, ...]], columns: Iterable[ScoreColumn]
) -> list[Place]:
    """The arms of one pose. keys: of the runs of each arm of the study."""
    ranks = zip(
        *(_ranked(column, [study.arms[i] for i in arms], arms, study.claims.alpha) for column in columns), strict=True
    )
    return [
        Place(i, study.arms[i].pose, study.arms[i].variant, keys[i], list(scores))
        for i, scores in zip(arms, ranks, strict=True)
    ]


def score_columns(columns: Iterable[ScoreColumn]) -> list[Column[Place]]:
    return [_score_column(number, column.heading) for number, column in enumerate(columns)]


def _score_column(number: int, heading: str) -> Column[Place]:
    return Column(heading, cell=lambda place: place.scores[number].cell)


def _ranked(column: ScoreColumn, arms: Sequence[Arm], places: Sequence[int], alpha: float) -> list[Ranked]:
    score_RS = column.score_AS[places]
    estimate = mean_interval(score_RS)
    ranked_RS = np.where(np.array([arm.sees_pose for arm in arms])[:, None], np.nan, score_RS)
    best = best_of(ranked_RS, smaller_is_better=column.score.smaller_is_better)
    present_R = ~np.isnan(ranked_RS).all(axis=1)
    compared = column.ranking and best.index is not None and present_R.sum() > 1
    tied_R = best.tied(alpha) & present_R & compared
    ranks = []
    for i, (is_tied, p) in enumerate(zip(tied_R.tolist(), best.p_A.tolist(), strict=True)):
        mean, is_best = mean_of(estimate, i), bool(compared and i == best.index)
        shown = mean if column.intervals else mean._replace(half_width=np.nan)
        mark, factor = f" {TIED}" if is_tied else "", column.score.factor
        cell = mean_cell(shown, column.score.decimals, factor=factor, dash=column.intervals, mark=mark)
        ranks.append(Ranked(cell._replace(strong=is_best), mean, is_best, is_tied, p))
    return ranks


def ranking_note(alpha: float, arms: Sequence[Arm]) -> str:
    """What bold and the mark mean."""
    models = list(dict.fromkeys(variant_parts(arm.variant).model for arm in arms if arm.sees_pose))
    verbs = "sees the true pose and takes" if len(models) == 1 else "see the true pose and take"
    control = f" {listed(models)} {verbs} no part." if models else ""
    return (
        f"Bold: the best of a column at its pose. {TIED}: not told apart from it; the difference, paired by seed, is "
        f"not significant at the {100 * alpha:g} % level in a two-sided paired t test (Holm-corrected over the "
        f"column), or fewer than two seeds are common to both.{control}"
    )
