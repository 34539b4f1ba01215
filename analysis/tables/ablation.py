"""The ablation: every variant in the order of the study, with its difference to its baseline."""

from analysis.ablation import status_text
from analysis.findings import Findings
from analysis.formats import Section, Table
from analysis.means import MIN_SEEDS
from analysis.tables import table
from analysis.tables.ranking import pose_heading

_COLUMNS = (
    "study",
    "task",
    "task_hash",
    "protocol_hash",
    "pose",
    "variant",
    "baseline",
    *("val_accuracy", "val_accuracy_half_width", "val_accuracy_num_seeds"),
    *("test_accuracy", "test_accuracy_half_width", "test_accuracy_num_seeds"),
    *("difference", "difference_half_width", "difference_num_pairs"),
    "difference_excludes_zero",
    "gap_closed",
    "gap_closed_low",
    "gap_closed_high",
    "num_parameters",
    "train_flops",
    "final_runs",
    "trials",
    "run_keys",
    "other_run_keys",
    "winner_keys",
)


@table("ablation")
def ablation_table(findings: Findings) -> Table:
    """A section a pose; accuracies as fractions in the rows for programs."""
    found = findings.ablation
    keys = {(row.pose, row.variant): tuple(run.key for run in row.finals if run.averaged) for row in found.rows}
    sections = tuple(
        Section(
            pose_heading(section.pose, findings.study.arms),
            section.table,
            tuple(keys[row.pose, row.variant] for row in section.rows),
        )
        for section in found.sections
    )
    rows = tuple(
        (
            found.study,
            found.task_label,
            found.task_hash,
            found.protocol_hash,
            row.pose,
            row.variant,
            row.baseline,
            *row.val_accuracy,
            *row.test_accuracy,
            *(row.difference or (None, None, None)),
            row.difference.excludes_zero if row.difference and row.difference.num >= MIN_SEEDS else None,
            *(row.gap_closed[:3] if row.gap_closed else (None, None, None)),
            row.num_parameters,
            row.train_flops,
            status_text(row.final_statuses),
            status_text(row.trial_statuses),
            " ".join(keys[row.pose, row.variant]),
            " ".join(f"{run.key}:{run.status}" for run in row.finals if not run.averaged),
            " ".join(row.winners) or None,
        )
        for row in found.rows
    )
    return Table(found.study, "ablation", found.title, sections, found.notes, _COLUMNS, rows)
