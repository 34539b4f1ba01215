"""Sections whose columns are the same score under many conditions: means over runs, the best bold, ties marked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.formats import Section, Value
from analysis.means import Mean, mean_of
from analysis.scores import FinalScores
from analysis.statistics import Estimate, Floats, mean_interval
from analysis.tables.columns import (
    POSE,
    RUN_KEYS,
    VARIANT,
    Column,
    Draft,
    arms_by_pose,
    mean_names,
    pose_heading,
    section,
)
from analysis.tables.ranking import Place, ScoreColumn, places_of, score_columns

MAX_COLUMNS = 13
"""Columns that a page has room for; of more, as many at equal distances, the first and the last among them."""


class Grid(NamedTuple):
    """What a section shows. score_of: AS, arms by seeds, as fractions, by the heading of their column.

    ranking: whether more is better, so that the best of a column is marked.
    """

    heading: str
    score_of: Mapping[str, Floats]
    ranking: bool = True


def grid_sections(grids: Iterable[Grid], scores: FinalScores, keys: Sequence[tuple[str, ...]]) -> Iterator[Section]:
    """Sections of each pose. keys: of the runs of each arm that were measured; arms without have no row."""
    grids, study = list(grids), scores.study
    for pose, arms in arms_by_pose(study.arms).items():
        arms = [i for i in arms if keys[i]]
        for grid in grids:
            if arms and grid.score_of:
                shown = [
                    ScoreColumn(name, grid.score_of[name], ranking=grid.ranking)
                    for name in thinned(list(grid.score_of))
                ]
                columns: list[Column[Place]] = [VARIANT, Column("n", cell=lambda place: len(place.keys))]
                rows = places_of(study, arms, keys, shown)
                yield section(pose_heading(pose, study.arms, grid.heading), [*columns, *score_columns(shown)], rows)


class Measured(NamedTuple):
    """An arm under a condition, and its mean scores there. condition: as a row names it."""

    pose: str
    variant: str
    keys: tuple[str, ...]
    condition: tuple[Value, ...]
    means: list[Mean]


def measured_rows(
    scores: FinalScores, keys: Sequence[tuple[str, ...]], conditions: Iterable[tuple[tuple[Any, ...], list[Estimate]]]
) -> list[Measured]:
    """A row for programs for each arm and condition under which it has a score, arm by arm.

    keys: of the runs of each arm that were measured. conditions: as a row names them, with the means of all arms.
    """
    conditions = list(conditions)
    return [
        Measured(arm.pose, arm.variant, keys[i], condition, [mean_of(estimate, i) for estimate in estimates])
        for i, arm in enumerate(scores.study.arms)
        for condition, estimates in conditions
        if estimates[0].num_X[i]
    ]


def measured_columns(condition: str, measures: Sequence[str], over: str = "runs") -> list[Column[Measured]]:
    """condition: the names of its values."""
    names = " ".join(mean_names(name, f"{name}_num_{over}") for name in measures)
    return [
        POSE,
        VARIANT,
        Column("", condition, value=lambda row: row.condition),
        Column("", names, value=lambda row: tuple(value for mean in row.means for value in mean)),
        RUN_KEYS,
    ]


def points_draft(
    scores: FinalScores,
    points: pd.DataFrame,
    grids: Iterable[Grid],
    notes: Iterable[str],
    names: Mapping[str, str],
    measures: Sequence[str],
    *,
    sort: bool = True,
) -> Draft[Measured]:
    """Grids of points that runs were measured at, which programs have by the columns that differ in them.

    names: by such columns, the last of numbers, what programs call them.
    """
    measured = set(points["key"])
    keys = [tuple(key for key in of_arm if key in measured) for of_arm in scores.keys]
    conditions = (
        ((*map(str, texts), float(str(number))), [mean_interval(scores.spread(at, at[what])) for what in measures])
        for (*texts, number), at in points.groupby(list(names), sort=sort)
    )
    columns = measured_columns(" ".join(names.values()), measures)
    return Draft(grid_sections(grids, scores, keys), notes, columns, measured_rows(scores, keys, conditions))


def thinned(names: list[str]) -> list[str]:
    """At most MAX_COLUMNS of them."""
    if len(names) <= MAX_COLUMNS:
        return names
    step = (len(names) - 1) / (MAX_COLUMNS - 1)
    return [names[round(i * step)] for i in range(MAX_COLUMNS)]
