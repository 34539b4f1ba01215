"""What every variant was trained with: the hyper-parameters of its winning trial."""

from analysis.ablation import Row, hyper_parameter_names, value_text
from analysis.findings import Findings
from analysis.formats import Cell, Section, one_line
from analysis.tables.building import table
from analysis.tables.columns import POSE, VARIANT, Column, Draft, text_of
from ledger.wording import count


@table("hyper_parameters", "Hyper-parameters")
def hyper_parameters(findings: Findings) -> Draft[Row] | None:
    """One section, a row an arm; None where no run has a hyper-parameter that says anything."""
    rows = findings.rows
    names = hyper_parameter_names(rows)
    if not names:
        return None
    number = findings.study.tuned_at or 0
    tuned_at = findings.study.rungs[number - 1] if 0 < number <= len(findings.study.rungs) else None
    several = len({row.pose for row in rows}) > 1
    columns: list[Column[Row]] = [
        POSE,
        VARIANT,
        Column("Pose" if several else "", "", "l", lambda row: row.pose),
        *map(_column, names),
        Column("Winning trial", "run_keys", "l", _winners, lambda row: " ".join(row.winners)),
    ]
    notes = (
        "Of the trial that won, or of those that did, where each seed was tuned anew; of the final runs where nothing "
        "was tuned. Settings that are the same in every run are left out, but for those of the optimiser.",
        *([f"Trials had {tuned_at.train_images:,} images and {count(tuned_at.epochs, 'epoch')}."] if tuned_at else []),
    )
    sections = [Section("", text_of(columns, rows), tuple(row.winners for row in rows))]
    return Draft(sections, notes, columns, rows)


def _column(name: str) -> Column[Row]:
    return Column(
        one_line(name), (name,), "r", lambda row: Cell(value_text(row.hyper_parameters.get(name))),
        lambda row: row.hyper_parameters.get(name),
    )  # fmt: skip


def _winners(row: Row) -> str | None:
    return f"one for each of {len(row.winners)} seeds" if len(row.winners) > 1 else "".join(row.winners) or None
