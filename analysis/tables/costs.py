"""What a variant costs, whatever machine it runs on: parameters and floating-point operations."""

from analysis.ablation import Row
from analysis.findings import Findings
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import Cell
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, VARIANT, Column, Draft, pose_sections
from analysis.tables.prediction import prediction_columns, prediction_note


@table("costs", "Costs")
def costs(findings: Findings) -> Draft[Row] | None:
    """A section a pose; None where no run says what it cost."""
    study, rows = findings.study, findings.rows
    if all(row.num_parameters is None and row.train_flops is None for row in rows):
        return None
    arms = {(row.pose, row.variant): row for row in rows}
    runs = study.runs.dropna(subset="train_flops").groupby(["pose", "variant"])["train_flops"]
    num_runs, spent = runs.count().to_dict(), runs.sum().to_dict()
    unit, all_unit = flop_unit(row.train_flops for row in rows), flop_unit(spent.values())

    def base(row: Row) -> Row:
        return arms[row.pose, row.baseline]

    tested: list[Column[Row]] = prediction_columns(rows, lambda row: row)
    if tested:
        ratio: Column[Row] = Column(
            "Prediction ×", "predict_flops_ratio", "r",
            lambda row: _ratio_cell(row.predict_flops, base(row).predict_flops),
        )  # fmt: skip
        tested.insert(1, ratio)
    columns: list[Column[Row]] = [
        POSE,
        VARIANT,
        Column(
            "Baseline", "baseline", "l", lambda row: row.baseline if row.baseline != row.variant else None,
            lambda row: row.baseline,
        ),
        Column("Parameters", "num_parameters", "r", lambda row: count_cell(row.num_parameters)),
        Column(
            "Parameters ×", "num_parameters_ratio", "r",
            lambda row: _ratio_cell(row.num_parameters, base(row).num_parameters),
        ),
        Column("Training FLOPs", "train_flops", "r", lambda row: flop_cell(row.train_flops, unit)),
        Column("FLOPs ×", "train_flops_ratio", "r", lambda row: _ratio_cell(row.train_flops, base(row).train_flops)),
        *tested,
        Column(
            "All runs' FLOPs", "all_runs_train_flops", "r",
            lambda row: flop_cell(spent.get((row.pose, row.variant)), all_unit),
        ),
        Column("Runs", "all_runs_num", "r", lambda row: num_runs.get((row.pose, row.variant), 0)),
        RUN_KEYS,
    ]  # fmt: skip
    notes = (
        "Parameters and training FLOPs are those of one final run, and × says how many times the baseline's. FLOPs "
        "count convolutions and matrix products. The last two columns are over all runs that say what they cost, "
        "trials and final runs. Times are in a table of their own.",
        *prediction_note(tested),
    )
    return Draft(pose_sections(study, columns, rows), notes, columns, rows)


def _ratio_cell(number: float | None, base: float | None) -> Cell | None:
    return Cell(f"{number / base:.2f}", number / base) if number is not None and base else None
