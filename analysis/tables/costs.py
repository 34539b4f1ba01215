"""What a variant costs, whatever machine it runs on: parameters and floating-point operations."""

from analysis.findings import Findings
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import ABSENT, Cell, Section, Table, text_table
from analysis.scores import final_scores
from analysis.tables import table
from analysis.tables.ranking import arms_by_pose, pose_heading

_HEADINGS = (
    "Variant",
    "Baseline",
    "Parameters",
    "Parameters ×",
    "Training FLOPs",
    "FLOPs ×",
    "All runs' FLOPs",
    "Runs",
)


@table("costs")
def costs(findings: Findings) -> Table | None:
    """A section a pose; None where no run says what it cost."""
    study, found = findings.study, findings.ablation.rows
    if all(row.num_parameters is None and row.train_flops is None for row in found):
        return None
    place = {(row.pose, row.variant): row for row in found}
    keys = final_scores(study).keys
    spent = study.runs.groupby("arm")["train_flops"].agg(["sum", "count"]).reindex(range(len(study.arms)), fill_value=0)
    unit, all_unit = flop_unit(row.train_flops for row in found), flop_unit(spent["sum"])
    sections, rows = [], []
    for pose, places in arms_by_pose(study.arms).items():
        cells = []
        for i in places:
            row = found[i]
            base = place[row.pose, row.baseline]
            parameters = _ratio(row.num_parameters, base.num_parameters)
            flops = _ratio(row.train_flops, base.train_flops)
            total, num_runs = float(spent["sum"].iloc[i]), int(spent["count"].iloc[i])
            cells.append(
                (
                    Cell(row.variant),
                    Cell(row.baseline if row.baseline != row.variant else ABSENT),
                    count_cell(row.num_parameters),
                    _ratio_cell(parameters),
                    flop_cell(row.train_flops, unit),
                    _ratio_cell(flops),
                    flop_cell(total if num_runs else None, all_unit),
                    Cell(str(num_runs), num_runs),
                )
            )
            numbers = (row.num_parameters, parameters, row.train_flops, flops, total if num_runs else None, num_runs)
            rows.append((study.name, row.pose, row.variant, row.baseline, *numbers, " ".join(keys[i])))
        text = text_table(_HEADINGS, "llrrrrrr", cells)
        sections.append(Section(pose_heading(pose, study.arms), text, tuple(keys[i] for i in places)))
    notes = (
        "Parameters and training FLOPs are those of one final run, and × says how many times the baseline's. FLOPs "
        "count convolutions and matrix products. The last two columns are over all runs that say what they cost, "
        "trials and final runs. Times are in a table of their own.",
    )
    columns: tuple[str, ...] = ("study", "pose", "variant")
    columns += ("baseline", "num_parameters", "num_parameters_ratio", "train_flops")
    columns += ("train_flops_ratio", "all_runs_train_flops", "all_runs_num", "run_keys")
    title = f"Costs on {study.task_label}"
    return Table(study.name, "costs", title, tuple(sections), notes, columns, tuple(rows))


def _ratio(number: float | None, base: float | None) -> float | None:
    return number / base if number is not None and base else None


def _ratio_cell(ratio: float | None) -> Cell:
    return Cell(ABSENT) if ratio is None else Cell(f"{ratio:.2f}", ratio)
