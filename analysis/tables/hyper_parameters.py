"""What every variant was trained with: the hyper-parameters of its winning trial."""

from analysis.ablation import Row, hyper_parameter_names, value_text
from analysis.findings import Findings
from analysis.formats import Cell, Section, one_line
from analysis.tables.building import table
from analysis.tables.columns import POSE, VARIANT, Column, Draft, text_of


@table("hyper_parameters", "Hyper-parameters")
def hyper_parameters(findings: Findings) -> Draft[Row] | None:
    """One section, a row an arm; None where no run has a hyper-parameter that says anything."""
    rows = findings.rows
    names = hyper_parameter_names(rows)
    if not names:
        return None
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
    )
    sections = [Section("", text_of(columns, rows), tuple(row.winners for row in rows))]
    return Draft(sections, notes, columns, rows)


def _column(name: str) -> Column[Row]:
    return Column(
        one_line(name), (name,), "r", lambda row: Cell(value_text(row.hyper_parameters.get(name))),
        lambda row: row.hyper_parameters.get(name),
    )  # fmt: skip


def _winners(row: Row) -> str | None:
    return f"{len(row.winners)}, one for each seed" if len(row.winners) > 1 else "".join(row.winners) or None
