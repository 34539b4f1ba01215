"""Who is first: every variant of a pose, sorted by its test accuracy, with all that was measured on test images."""

import numpy as np

from analysis.chance import majority_note
from analysis.findings import Findings
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import Cell, Section, Table, Value, text_table
from analysis.scores import SCORES, final_scores
from analysis.statistics import CONFIDENCE
from analysis.tables import table
from analysis.tables.ranking import arms_by_pose, pose_heading, ranked, ranking_note


@table("leaderboard")
def leaderboard(findings: Findings) -> Table | None:
    """A section a pose; None where no pose has two variants with a score."""
    study, scores = findings.study, final_scores(findings.study)
    score_of = {score: scores.array(score.name) for score in SCORES}
    shown = [score for score, score_AS in score_of.items() if not np.isnan(score_AS).all()]
    scored_A = np.array([bool(keys) for keys in scores.keys])
    by_pose = arms_by_pose(study.arms)
    if all(scored_A[places].sum() < 2 for places in by_pose.values()):
        return None
    costs = findings.ablation.rows
    unit = flop_unit(row.train_flops for row in costs)
    alpha = study.claims.alpha
    columns = ("Variant", *(score.heading for score in shown), "n", "Parameters", "Training FLOPs")
    sections, rows = [], []
    for pose, places in by_pose.items():
        with np.errstate(invalid="ignore"):
            mean_A = [float(np.nanmean(score_of[SCORES[0]][i])) if scored_A[i] else -np.inf for i in places]
        order = [places[j] for j in np.argsort(-np.array(mean_A), kind="stable")]
        arms = [study.arms[i] for i in order]
        ranks = {
            score: ranked(
                score_AS[order], arms, alpha,
                factor=score.factor, decimals=score.decimals, smaller_is_better=score.smaller_is_better,
            )
            for score, score_AS in score_of.items()
        }  # fmt: skip
        cells, strong, rank = [], set(), 0
        for j, (i, arm) in enumerate(zip(order, arms, strict=True)):
            num, listed = len(scores.keys[i]), len(arm.finals)
            cells.append(
                (
                    Cell(arm.variant),
                    *(ranks[score].cells[j] for score in shown),
                    Cell(str(num) if num == listed else f"{num} of {listed}", num),
                    count_cell(costs[i].num_parameters),
                    flop_cell(costs[i].train_flops, unit),
                )
            )
            strong |= {(j, 1 + k) for k, score in enumerate(shown) if ranks[score].first[j]}
            numbers: list[Value] = []
            for column in ranks.values():
                numbers += [*column.means[j], column.first[j], column.tied[j], float(column.best.p_A[j])]
            is_ranked = num > 0 and not arm.sees_pose
            rank += is_ranked
            place = (study.name, arm.pose, rank if is_ranked else None, arm.variant)
            keys = " ".join(scores.keys[i])
            rows.append((*place, *numbers, costs[i].num_parameters, costs[i].train_flops, listed, keys))
        text = text_table(columns, "l" + "r" * (len(columns) - 1), cells, frozenset(strong))
        sections.append(Section(pose_heading(pose, study.arms), text, tuple(scores.keys[i] for i in order)))
    ends = ("", "_half_width", "_num_seeds", "_is_best", "_tied_with_best", "_p_best")
    names = [f"{score.name}{end}" for score in SCORES for end in ends]
    notes = (
        ranking_note(alpha, study.arms),
        *majority_note(study),
        f"Numbers are means over the n completed final runs, ± the half width of their {100 * CONFIDENCE:g} % "
        "Student-t interval. Where runs are missing or failed, n says of how many; they are never averaged over.",
        *(f"{score.heading}: {score.meaning}." for score in shown[1:]),
    )
    return Table(
        study.name,
        "leaderboard",
        f"Leaderboard on {study.task_label}",
        tuple(sections),
        notes,
        ("study", "pose", "rank", "variant", *names, "num_parameters", "train_flops", "num_finals", "run_keys"),
        tuple(rows),
    )
