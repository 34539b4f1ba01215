"""Sections whose columns are the same score under many conditions: means over runs, the best bold, ties marked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from analysis.formats import Section, Value, text_table
from analysis.means import mean_of
from analysis.scores import FinalScores
from analysis.statistics import Estimate, Floats, mean_interval
from analysis.tables.ranking import arms_by_pose, pose_heading, ranked

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
    for pose, places in arms_by_pose(study.arms).items():
        places = [i for i in places if keys[i]]
        for grid in grids:
            if places and grid.score_of:
                yield _section(pose_heading(pose, study.arms, grid.heading), grid, places, scores, keys)


def _section(
    heading: str, grid: Grid, places: list[int], scores: FinalScores, keys: Sequence[tuple[str, ...]]
) -> Section:
    arms, alpha = [scores.study.arms[i] for i in places], scores.study.claims.alpha
    names = thinned(list(grid.score_of))
    ranks = [ranked(grid.score_of[name][places], arms, alpha, intervals=False, ranking=grid.ranking) for name in names]
    variants, nums = [arm.variant for arm in arms], [len(keys[i]) for i in places]
    cells = zip(variants, nums, *([place.cell for place in column] for column in ranks), strict=True)
    text = text_table(("Variant", "n", *names), "lr" + "r" * len(names), cells)
    return Section(heading, text, tuple(keys[i] for i in places))


Condition = tuple[tuple[Value, ...], list[Estimate]]
"""Something that arms were measured under: how a row names it, and the means of all arms."""


def measured_rows(
    scores: FinalScores, keys: Sequence[tuple[str, ...]], conditions: Iterable[Condition]
) -> tuple[tuple[Value, ...], ...]:
    """A row for programs for each arm and condition under which it has a score, arm by arm.

    keys: of the runs of each arm that were measured.
    """
    conditions = list(conditions)
    return tuple(
        (scores.study.name, arm.pose, arm.variant, *place, *(n for each in means for n in mean_of(each, i)), joined)
        for i, arm in enumerate(scores.study.arms)
        for joined in [" ".join(keys[i])]
        for place, means in conditions
        if means[0].num_X[i]
    )


def conditions_of(
    scores: FinalScores, points: pd.DataFrame, by: list[str], measures: list[str], *, sort: bool = True
) -> Iterator[Condition]:
    """The conditions of points that differ in these columns: texts, and a number as the last."""
    for (*names, number), at in points.groupby(by, sort=sort):
        yield (*map(str, names), float(str(number))), [mean_interval(scores.spread(at, at[what])) for what in measures]


def measured_keys(scores: FinalScores, points: pd.DataFrame) -> list[tuple[str, ...]]:
    """The keys of each arm's runs that have points."""
    measured = set(points["key"])
    return [tuple(key for key in own if key in measured) for own in scores.keys]


def thinned(names: list[str]) -> list[str]:
    """At most MAX_COLUMNS of them."""
    if len(names) <= MAX_COLUMNS:
        return names
    step = (len(names) - 1) / (MAX_COLUMNS - 1)
    return [names[round(i * step)] for i in range(MAX_COLUMNS)]
