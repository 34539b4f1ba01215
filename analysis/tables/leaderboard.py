"""Who is first: every variant of a pose, sorted by its test accuracy, with all that was measured on test images."""

import math

import numpy as np

from analysis.chance import majority_note
from analysis.findings import Findings
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import Cell
from analysis.statistics import CONFIDENCE
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, VARIANT, Column, Draft, arms_by_pose, mean_names, pose_sections
from analysis.tables.prediction import prediction_columns, prediction_note
from analysis.tables.ranking import Place, ScoreColumn, places_of, ranking_note


@table("leaderboard", "Leaderboard")
def leaderboard(findings: Findings) -> Draft[Place] | None:
    """A section a pose; None where no pose has two variants with a score."""
    study, rows, scores = findings.study, findings.rows, findings.scores
    by_pose = arms_by_pose(study.arms)
    if all(sum(bool(scores.keys[i]) for i in arms) < 2 for arms in by_pose.values()):
        return None
    score_of = {score: scores.array(score.name) for score in scores.shown}
    shown = [
        ScoreColumn("" if np.isnan(score_AS).all() else score.heading, score_AS, score, intervals=True)
        for score, score_AS in score_of.items()
    ]
    found: list[Place] = []
    rank_of: dict[int, int] = {}
    for arms in by_pose.values():
        order = sorted(arms, key=lambda i: -rows[i].test_accuracy.value if scores.keys[i] else math.inf)
        found += places_of(study, order, scores.keys, shown)
        ranked = [i for i in order if scores.keys[i] and not study.arms[i].sees_pose]
        rank_of |= {i: rank for rank, i in enumerate(ranked, 1)}
    unit = flop_unit(row.train_flops for row in rows)
    tested: list[Column[Place]] = prediction_columns(rows, lambda place: rows[place.arm])
    columns: list[Column[Place]] = [
        POSE,
        Column("", "rank", value=lambda place: rank_of.get(place.arm)),
        VARIANT,
        *(_score_column(number, column) for number, column in enumerate(shown)),
        Column("n", cell=lambda place: _num_cell(len(place.keys), len(rows[place.arm].finals))),
        Column("Parameters", "num_parameters", "r", lambda place: count_cell(rows[place.arm].num_parameters)),
        Column("Training FLOPs", "train_flops", "r", lambda place: flop_cell(rows[place.arm].train_flops, unit)),
        *tested,
        Column("", "num_finals", value=lambda place: len(rows[place.arm].finals)),
        RUN_KEYS,
    ]
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        *majority_note(study),
        f"Numbers are means over the n completed final runs, ± the half width of their {100 * CONFIDENCE:g} % "
        "Student-t interval. Where runs are missing or failed, n says of how many; they are never averaged over.",
        *(f"{column.heading}: {column.score.meaning}." for column in shown[1:] if column.heading),
        *prediction_note(tested),
    )
    return Draft(pose_sections(study, columns, found), notes, columns, found)


def _num_cell(num: int, listed: int) -> Cell:
    return Cell(str(num) if num == listed else f"{num} of {listed}", num)


def _score_column(number: int, column: ScoreColumn) -> Column[Place]:
    name = column.score.name
    names = f"{mean_names(name, f'{name}_num_seeds')} {name}_is_best {name}_tied_with_best {name}_p_best"
    return Column(
        column.heading, names, "r", lambda place: place.scores[number].cell,
        lambda place: (*place.scores[number].mean, *place.scores[number][2:]),
    )  # fmt: skip
