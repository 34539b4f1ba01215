"""The ablation: every variant in the order of the study, with its difference to its baseline."""

import math
from collections.abc import Iterator

from analysis.ablation import Row, status_text, trials_of_a_tuning
from analysis.chance import majority_note
from analysis.code import code_notes
from analysis.findings import Findings
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import Cell, one_line
from analysis.gap import GAP_COLUMN, gap_notes, gaps, share_text
from analysis.means import MIN_SEEDS
from analysis.statistics import CONFIDENCE
from analysis.tables.building import table
from analysis.tables.columns import (
    POSE,
    RUN_KEYS,
    VARIANT,
    Column,
    Draft,
    by_pose,
    mean_column,
    pose_heading,
    section,
    star,
)
from analysis.tables.prediction import prediction_columns, prediction_note

STAR = (
    "A * marks an interval that excludes 0, where both were trained long enough for a longer training not to turn it; "
    "it is not corrected for the number of comparisons"
)


@table("ablation", "Ablation")
def ablation_table(findings: Findings) -> Draft[Row]:
    """A section a pose; accuracies as fractions in the rows for programs."""
    study, poses = findings.study, by_pose(findings.rows)
    task = study.task_label, study.task_hash, study.protocol_hash
    unit = flop_unit(row.train_flops for row in findings.rows)
    tested: list[Column[Row]] = prediction_columns(findings.rows, lambda row: row)
    columns: list[Column[Row]] = [
        Column("", "task task_hash protocol_hash", value=lambda row: task),
        POSE,
        VARIANT,
        Column(
            "Baseline", "baseline", "l", lambda row: None if row.difference is None else row.baseline,
            lambda row: row.baseline,
        ),
        mean_column("Validation %", "val_accuracy", lambda row: row.val_accuracy, num="val_accuracy_num_seeds"),
        mean_column("Test %", "test_accuracy", lambda row: row.test_accuracy, num="test_accuracy_num_seeds"),
        Column("n", cell=lambda row: row.test_accuracy.num),
        mean_column("Difference", "difference", lambda row: row.difference, signed=True, mark=_mark),
        Column(
            "", "difference_excludes_zero",
            value=lambda row: row.difference.excludes_zero
            if row.difference and row.difference.num >= MIN_SEEDS else None,
        ),
        Column(
            GAP_COLUMN, "gap_closed gap_closed_low gap_closed_high", "r", _share,
            lambda row: row.gap_closed[:3] if row.gap_closed else (None,) * 3,
        ),
        Column("Parameters", "num_parameters", "r", lambda row: count_cell(row.num_parameters)),
        Column("Training FLOPs", "train_flops", "r", lambda row: flop_cell(row.train_flops, unit)),
        *tested,
        Column("Final runs", "final_runs", "l", lambda row: status_text(row.final_statuses) or None),
        Column("Trials", "trials", "l", lambda row: status_text(row.trial_statuses) or None),
        RUN_KEYS,
        Column(
            "", "other_run_keys",
            value=lambda row: " ".join(f"{run.key}:{run.status}" for run in row.finals if not run.averaged),
        ),
        Column("", "winner_keys", value=lambda row: " ".join(row.winners)),
    ]  # fmt: skip
    sections = []
    for pose, rows in poses.items():
        has_gap = any(row.gap_closed for row in rows)
        shown = [column for column in columns if has_gap or column.heading != GAP_COLUMN]
        sections.append(section(pose_heading(pose, study.arms), shown, rows))
    notes = (*_notes(findings, list(poses)), *prediction_note(tested))
    return Draft(sections, notes, columns, findings.rows)


def _mark(row: Row) -> str:
    num = row.difference.num if row.difference else 0
    pairs = f" ({num} pair{'s' if num > 1 else ''})" if 0 < num < row.test_accuracy.num else ""
    return pairs + star(row.difference, is_ripe=row.is_ripe)


def _share(row: Row) -> Cell:
    share = row.gap_closed
    return Cell(share_text(share, row.test_accuracy.num), share.value if share else None)


def _notes(findings: Findings, poses: list[str]) -> Iterator[str]:
    study = findings.study
    task = [
        study.task_label,
        f"{study.num_classes} classes",
        f"{'poses' if len(poses) > 1 else 'pose'} {', '.join(poses)}",
    ]
    if study.test_pose:
        task.append(f"the test part under {study.test_pose}")
    finals = study.runs[study.runs["stage"] == "final"]
    sizes = [finals[f"num_{part}_images"].max() for part in ("train", "val", "test")]
    if not any(map(math.isnan, sizes)):
        train, val, test = (f"{int(size):,}" for size in sizes)
        task.append(f"{train} training, {val} validation and {test} test images")
    if study.epochs is not None:
        task.append(f"{study.epochs} epoch{'s' if study.epochs > 1 else ''}")
    task += [f"budget {study.budget}", f"protocol {study.protocol_hash}"]
    yield one_line(f"Task: {'; '.join(task)}.")
    num_finals = sorted({len(arm.finals) for arm in study.arms})
    yield (
        f"Accuracies are per cent: the mean over seeds ± the half width of its {100 * CONFIDENCE:g} % Student-t "
        f"interval; n counts the completed final runs that the mean is over, of {_range_text(num_finals)} a variant, "
        "each with a seed of its own. Runs that are not completed are counted and never averaged; a single seed has "
        "no interval, and two have none that says anything: a dash."
    )
    yield (
        "Difference: of the test accuracy to the baseline's, in percentage points, paired by seed over the seeds that "
        f"both completed, ± the half width of the {100 * CONFIDENCE:g} % Student-t interval of the paired differences. "
        f"{STAR}."
    )
    yield from code_notes(study)
    yield from majority_note(study)
    found = gaps(study.arms, findings.scores.test_AS)
    yield from gap_notes(found, several_poses=len(poses) > 1)
    num_trials = trials_of_a_tuning(study)
    if num_trials[-1]:
        trials = "trial" if num_trials == [1] else "trials"
        what = "variant and final seed" if study.tuning == "per_seed" else "variant"
        tuned = f"tuned on validation images only, with {_range_text(num_trials)} {trials} for each {what}"
    else:
        tuned = "not tuned"
    yield f"Hyper-parameters were {tuned}. The test set was read once in each final run, and in no other."
    yield "Parameters and training FLOPs are those of one final run."


def _range_text(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
