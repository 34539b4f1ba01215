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


class Place(NamedTuple):
    """An arm in columns of scores. keys: of its runs that they are over."""

    pose: str
    variant: str
    keys: tuple[str, ...]
    scores: list[Ranked]


class ScoreColumn(NamedTuple):
    """What a column shows of all arms, without intervals. score: how it is printed."""

    heading: str
    score_AS: Floats
    score: Score = SHOWN[0]


def places_of(
    study: Study,
    arms: Sequence[int],
    keys: Sequence[tuple[str, ...]],
    columns: Iterable[ScoreColumn],
    *,
    ranking: bool = True,
) -> list[Place]:
    """The arms of one pose, by their indices. keys: of the runs of each arm of the study."""
    of_arms, alpha = [study.arms[i] for i in arms], study.claims.alpha
    ranks = [
        ranked(score_AS[arms], of_arms, alpha, score, intervals=False, ranking=ranking)
        for _, score_AS, score in columns
    ]
    return [
        Place(arm.pose, arm.variant, keys[i], [column[j] for column in ranks])
        for j, (i, arm) in enumerate(zip(arms, of_arms, strict=True))
    ]


def score_columns(columns: Iterable[ScoreColumn]) -> list[Column[Place]]:
    return [_score_column(number, column.heading) for number, column in enumerate(columns)]


def _score_column(number: int, heading: str) -> Column[Place]:
    return Column(heading, cell=lambda place: place.scores[number].cell)


def ranked(
    score_RS: Floats,
    arms: Sequence[Arm],
    alpha: float,
    score: Score,
    *,
    intervals: bool = True,
    ranking: bool = True,
) -> list[Ranked]:
    """Scores of R arms of one pose by seeds. intervals: whether cells show them. ranking: whether one is the best."""
    estimate = mean_interval(score_RS)
    ranked_RS = np.where(np.array([arm.sees_pose for arm in arms])[:, None], np.nan, score_RS)
    best = best_of(ranked_RS, smaller_is_better=score.smaller_is_better)
    present_R = ~np.isnan(ranked_RS).all(axis=1)
    compared = ranking and best.index is not None and present_R.sum() > 1
    tied_R = best.tied(alpha) & present_R & compared
    column = []
    for i, (is_tied, p) in enumerate(zip(tied_R.tolist(), best.p_A.tolist(), strict=True)):
        mean, is_best = mean_of(estimate, i), bool(compared and i == best.index)
        shown = mean if intervals else mean._replace(half_width=np.nan)
        mark = f" {TIED}" if is_tied else ""
        cell = mean_cell(shown, score.decimals, factor=score.factor, dash=intervals, mark=mark)
        column.append(Ranked(cell._replace(strong=is_best), mean, is_best, is_tied, p))
    return column


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
