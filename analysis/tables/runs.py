"""Every run of the study, one a row: what all other tables are computed from."""

import pandas as pd

from analysis.ablation import Run
from analysis.findings import Findings
from analysis.formats import Cell, Section, Value
from analysis.run_records import MACHINE
from analysis.tables.building import table
from analysis.tables.columns import Column, Draft, text_of
from ledger.scores import COSTS, RESULT, Score

MAX_LISTED = 200
"""Final runs that people's formats list; the rows for programs have all runs."""


@table("runs", "Runs")
def runs_table(findings: Findings) -> Draft[Run] | None:
    """One section, the final runs; None where none is in the ledger."""
    study = findings.study
    finals = study.runs[(study.runs["stage"] == "final") & (study.runs["status"] != "missing")]
    if finals.empty:
        return None
    # Costs differ between repetitions; the key comes last, as in every table
    left_out = {"arm", "key", *(score.name for score in COSTS), *MACHINE, "versions", "code", "test_class_accuracy"}
    left_out |= {score.name for score in RESULT if score.is_later and study.runs[score.name].isna().all()}
    names = [str(name) for name in study.runs if name not in left_out]
    columns: list[Column[Run]] = [
        Column("Run", "", "l", lambda run: run["key"]),
        Column("Variant", "", "l", lambda run: run["variant"]),
        Column("Pose", "", "l", lambda run: run["pose"]),
        Column("Seed", cell=lambda run: Cell(f"{run['seed']:.0f}", run["seed"])),
        Column("Status", "", "l", lambda run: run["status"]),
        *(_score_column(score) for score in findings.scores.shown if finals[score.name].notna().any()),
        *(_value_column(name) for name in names),
        Column("", "run_keys", value=lambda run: run["key"]),
    ]
    sections = [Section("", text_of(columns, finals.head(MAX_LISTED).to_dict("records")), ())]
    runs = study.runs[[*names, "key"]].astype(object).to_dict("records")
    notes = ["The final runs, one a row; the CSV file has the trials too, with all hyper-parameters and scores."]
    if len(finals) > MAX_LISTED:
        notes.append(f"The first {MAX_LISTED} of {len(finals):,} are listed here.")
    return Draft(sections, notes, columns, runs)


def _score_column(score: Score) -> Column[Run]:
    def cell(run: Run) -> Cell | None:
        value = run[score.name]
        return None if pd.isna(value) else Cell(f"{score.factor * value:.{score.decimals}f}", value)

    return Column(score.heading, cell=cell)


def _value_column(name: str) -> Column[Run]:
    return Column("", (name,), value=lambda run: _value(run[name]))


def _value(value: object) -> Value:
    """A value of a data frame that writes whole numbers as such."""
    if value is None or isinstance(value, str | bool):
        return value
    number = float(value)  # type: ignore[arg-type]  # the other columns hold numbers
    return int(number) if number.is_integer() and abs(number) < 1e15 else number
