"""Who is first: every variant of a pose, sorted by its test accuracy, with all that was measured on test images."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from analysis.ablation import Row
from analysis.chance import majority_note
from analysis.findings import Findings
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import Cell
from analysis.scores import SHOWN
from analysis.statistics import CONFIDENCE, Floats
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, Column, Draft, arms_by_pose, mean_names, pose_sections
from analysis.tables.ranking import Ranked, ranked, ranking_note
from ledger.scores import Score


class Place(NamedTuple):
    """An arm on the board. rank: from 1; None where it has none. scores: by name."""

    pose: str
    keys: tuple[str, ...]
    arm: Row
    rank: int | None
    scores: dict[str, Ranked]


@table("leaderboard", "Leaderboard")
def leaderboard(findings: Findings) -> Draft[Place] | None:
    """A section a pose; None where no pose has two variants with a score."""
    study, rows, scores = findings.study, findings.rows, findings.scores
    score_of = {score: scores.array(score.name) for score in SHOWN}
    shown = [score for score, score_AS in score_of.items() if not np.isnan(score_AS).all()]
    by_pose = arms_by_pose(study.arms)
    if all(sum(bool(rows[i].keys) for i in places) < 2 for places in by_pose.values()):
        return None
    found = [place for places in by_pose.values() for place in _places(places, findings, score_of)]
    unit = flop_unit(row.train_flops for row in rows)
    columns: list[Column[Place]] = [
        POSE,
        Column("", "rank", value=lambda place: place.rank),
        Column("Variant", "variant", "l", lambda place: place.arm.variant),
        *(_score_column(score, score.heading if score in shown else "") for score in SHOWN),
        Column("n", cell=_num_cell),
        Column("Parameters", "num_parameters", "r", lambda place: count_cell(place.arm.num_parameters)),
        Column("Training FLOPs", "train_flops", "r", lambda place: flop_cell(place.arm.train_flops, unit)),
        Column("", "num_finals", value=lambda place: len(place.arm.finals)),
        RUN_KEYS,
    ]
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        *majority_note(study),
        f"Numbers are means over the n completed final runs, ± the half width of their {100 * CONFIDENCE:g} % "
        "Student-t interval. Where runs are missing or failed, n says of how many; they are never averaged over.",
        *(f"{score.heading}: {score.meaning}." for score in shown[1:]),
    )
    sections = pose_sections(study, columns, found)
    return Draft(sections, notes, columns, found)


def _places(places: list[int], findings: Findings, score_of: Mapping[Score, Floats]) -> Iterator[Place]:
    """The arms of a pose, the most accurate first. places: their indices."""
    rows = findings.rows
    order = sorted(places, key=lambda i: -rows[i].test_accuracy.value if rows[i].keys else math.inf)
    arms, alpha = [findings.study.arms[i] for i in order], findings.study.claims.alpha
    columns = {score.name: ranked(score_AS[order], arms, alpha, score) for score, score_AS in score_of.items()}
    rank = 0
    for j, (arm, row) in enumerate(zip(arms, (rows[i] for i in order), strict=True)):
        is_ranked = bool(row.keys) and not arm.sees_pose
        rank += is_ranked
        scores = {name: column[j] for name, column in columns.items()}
        yield Place(row.pose, row.keys, row, rank if is_ranked else None, scores)


def _num_cell(place: Place) -> Cell:
    num, listed = len(place.keys), len(place.arm.finals)
    return Cell(str(num) if num == listed else f"{num} of {listed}", num)


def _score_column(score: Score, heading: str) -> Column[Place]:
    names = f"{mean_names(score.name, f'{score.name}_num_seeds')} {score.name}_is_best"
    return Column(
        heading, f"{names} {score.name}_tied_with_best {score.name}_p_best", "r",
        lambda place: place.scores[score.name].cell,
        lambda place: (*place.scores[score.name].mean, *place.scores[score.name][2:]),
    )  # fmt: skip
