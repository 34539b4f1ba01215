"""Columns of scores in which the best is bold and those that cannot be told apart from it have a mark."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.formats import Cell
from analysis.means import Mean, mean_cell, mean_of
from analysis.records import Arm
from analysis.scores import SHOWN
from analysis.statistics import Floats, mean_interval
from analysis.statistics.ties import best_of
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


def ranked(
    score_RS: Floats,
    arms: Sequence[Arm],
    alpha: float,
    score: Score = SHOWN[0],
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


def pose_heading(pose: str, arms: Sequence[Arm], what: str = "") -> str:
    """A section's heading, such as `Pose R: accuracy`; `Accuracy` where the study has one pose."""
    if len({arm.pose for arm in arms}) == 1:
        return what[:1].upper() + what[1:]
    return f"Pose {pose}: {what}" if what else f"Pose {pose}"


def arms_by_pose(arms: Sequence[Arm]) -> dict[str, list[int]]:
    """Indices of the arms at each pose, in the order of the study."""
    by_pose: dict[str, list[int]] = {}
    for i, arm in enumerate(arms):
        by_pose.setdefault(arm.pose, []).append(i)
    return by_pose
