"""Sections whose columns are the same score under many conditions: means over runs, the best bold, ties marked."""

from collections.abc import Mapping, Sequence

from analysis.formats import Cell, Section, text_table
from analysis.scores import FinalScores
from analysis.statistics import Floats
from analysis.tables.ranking import ranked

MAX_COLUMNS = 13
"""Columns that a page has room for; of more, as many at equal distances, the first and the last among them."""


def grid_section(
    heading: str,
    score_of: Mapping[str, Floats],
    places: Sequence[int],
    scores: FinalScores,
    keys: Sequence[tuple[str, ...]],
    *,
    ranking: bool = True,
) -> Section:
    """Rows are the arms at these places, columns the conditions by their headings.

    score_of: AS, arms by seeds, as fractions. keys: of every arm of the study. ranking: whether more is better, so that
    the best of a column is marked.
    """
    arms = [scores.study.arms[i] for i in places]
    headings = thinned(list(score_of))
    alpha = scores.study.claims.alpha
    columns = [ranked(score_of[name][list(places)], arms, alpha, intervals=False, ranking=ranking) for name in headings]
    nums = [Cell(str(len(keys[i])), len(keys[i])) for i in places]
    cells = [(Cell(arm.variant), nums[j], *(column.cells[j] for column in columns)) for j, arm in enumerate(arms)]
    strong = frozenset((j, 2 + k) for k, column in enumerate(columns) for j in range(len(arms)) if column.first[j])
    text = text_table(("Variant", "n", *headings), "lr" + "r" * len(headings), cells, strong)
    return Section(heading, text, tuple(keys[i] for i in places))


def thinned(names: list[str]) -> list[str]:
    """At most MAX_COLUMNS of them."""
    if len(names) <= MAX_COLUMNS:
        return names
    step = (len(names) - 1) / (MAX_COLUMNS - 1)
    return [names[round(i * step)] for i in range(MAX_COLUMNS)]
