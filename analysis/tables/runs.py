"""Every run of the study, one a row: what all other tables are computed from."""

import pandas as pd

from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, Section, Table, Value, text_table
from analysis.run_records import COSTS, MACHINE
from analysis.scores import SCORES
from analysis.tables import table

MAX_LISTED = 200
"""Final runs that people's formats list; the rows for programs have all runs."""


@table("runs")
def runs(findings: Findings) -> Table | None:
    """One section, the final runs; None where none is in the ledger."""
    study = findings.study
    finals = study.runs[(study.runs["stage"] == "final") & (study.runs["status"] != "missing")]
    if finals.empty:
        return None
    shown = [score for score in SCORES if finals[score.name].notna().any()]
    cells = []
    for run in finals.head(MAX_LISTED).to_dict("records"):
        numbers = (
            Cell(ABSENT) if pd.isna(run[score.name])
            else Cell(f"{score.factor * run[score.name]:.{score.decimals}f}", run[score.name])
            for score in shown
        )  # fmt: skip
        place = Cell(run["key"]), Cell(run["variant"]), Cell(run["pose"]), Cell(f"{run['seed']:.0f}", run["seed"])
        cells.append((*place, Cell(run["status"]), *numbers))
    headings = ("Run", "Variant", "Pose", "Seed", "Status", *(score.heading for score in shown))
    text = text_table(headings, "lllrl" + "r" * len(shown), cells)
    # Costs differ between repetitions; the key comes last, as in every table.
    left_out = {"arm", "key", *COSTS, *MACHINE, "versions", "test_class_accuracy"}
    names = [str(name) for name in study.runs if name not in left_out]
    values = study.runs[[*names, "key"]].astype(object)
    rows = tuple((study.name, *map(_value, row)) for row in values.itertuples(index=False, name=None))
    notes = ["The final runs, one a row; the CSV file has the trials too, with all hyper-parameters and scores."]
    if len(finals) > MAX_LISTED:
        notes.append(f"The first {MAX_LISTED} of {len(finals):,} are listed here.")
    title = f"Runs on {study.task_label}"
    columns = ("study", *names, "run_keys")
    return Table(study.name, "runs", title, (Section("", text, ()),), tuple(notes), columns, rows)


def _value(value: object) -> Value:
    """A value of a data frame that writes whole numbers as such."""
    if value is None or isinstance(value, str | bool):
        return value
    number = float(value)  # type: ignore[arg-type]  # the other columns hold numbers
    return int(number) if number.is_integer() and abs(number) < 1e15 else number
