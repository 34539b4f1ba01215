"""Accuracies and differences at each value of the study's factor."""

import math
from collections.abc import Iterator
from itertools import starmap

from analysis.dependence import Dependence, Level
from analysis.findings import Findings
from analysis.formats import Cell, one_line
from analysis.means import mean_cell
from analysis.statistics import CONFIDENCE
from analysis.tables.building import table
from analysis.tables.claims import p_cell
from analysis.tables.columns import VARIANT, Column, Draft, by_pose, mean_names, pose_heading, section
from analysis.wording import plain_points

WORDS = {
    "depends": "depends on it",
    "same": "within the margin",
    "open": "cannot tell",
    "unripe": "trained too short to tell",
}


@table("dependence", "Accuracy by factor")
def dependence(findings: Findings) -> Draft[tuple[Dependence, Level]] | None:
    """A section of accuracies and one of differences for each pose; None for a study without a factor."""
    study, rows = findings.study, findings.dependences
    if study.factor is None or not rows:
        return None
    key, levels = one_line(study.factor.key), rows[0].levels
    sections = []
    for pose, of_pose in by_pose(rows).items():
        compared = [row for row in of_pose if row.is_compared]
        accuracies: list[Column[Dependence]] = [VARIANT, *starmap(_accuracy, enumerate(levels))]
        sections.append(section(pose_heading(pose, study.arms, f"accuracy by {key}"), accuracies, of_pose))
        if compared:
            differences = list(_differences(levels))
            sections.append(section(pose_heading(pose, study.arms, f"difference by {key}"), differences, compared))
    columns: list[Column[tuple[Dependence, Level]]] = [
        Column("", "pose variant baseline", value=lambda row: (row[0].pose, row[0].variant, row[0].baseline)),
        Column("", "factor value", value=lambda row: (key, row[1].value)),
        Column("", mean_names("test_accuracy", "num_runs"), value=lambda row: row[1].accuracy),
        Column("", mean_names("difference", "num_pairs"), value=lambda row: row[1].difference),
        Column("", mean_names("change"), value=lambda row: row[1].change),
        Column("", "extent p", value=lambda row: (row[0].extent, row[0].p) if row[0].is_compared else (None, None)),
        Column("", "run_keys", value=lambda row: " ".join(row[1].keys)),
    ]
    notes = (
        f"Each column is a value of {key}, at which the whole study was carried out by itself, with its own tuning. "
        "Accuracy in per cent; differences in points, paired by seed; ± the half width of a "
        f"{100 * CONFIDENCE:g} % Student-t interval.",
        "First to last: how much the difference changes over the values. Depends on it: a t test shows a change from "
        "the first value to another one. Within the margin: two one-sided t tests show each such change to be smaller "
        f"than {plain_points(study.claims.margin)}. Both at {study.claims.alpha:g}, corrected for all values of all "
        "variants (Holm). Neither is asked of what was trained too short to be compared at some value. That a change "
        "is not shown does not mean that there is none, and nothing is said of values in between.",
        *(
            f"{level.fault}." if level.fault else f"Nothing of {key} = {level.value} is there yet."
            for number, level in enumerate(levels)
            if not any(row.levels[number].accuracy.num for row in rows)
        ),
    )
    return Draft(sections, notes, columns, [(row, level) for row in rows for level in row.levels])


def _accuracy(number: int, level: Level) -> Column[Dependence]:
    return Column(level.value, cell=lambda row: mean_cell(row.levels[number].accuracy))


def _differences(levels: tuple[Level, ...]) -> Iterator[Column[Dependence]]:
    yield Column("Variant", "", "l", lambda row: f"{row.variant} over {row.baseline}")
    yield from starmap(_difference, enumerate(levels))
    yield Column("First to last", cell=lambda row: mean_cell(row.levels[-1].change, signed=True))
    yield Column("Dependence", "", "l", lambda row: Cell(WORDS[row.extent], strong=row.extent == "depends"))
    yield Column("p", cell=lambda row: None if math.isnan(row.p) else p_cell(row.p))


def _difference(number: int, level: Level) -> Column[Dependence]:
    return Column(level.value, cell=lambda row: mean_cell(row.levels[number].difference, signed=True))
