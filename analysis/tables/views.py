"""The study at equal epochs, at equal training FLOPs and at equal parameters: three different questions."""

from analysis.findings import Findings
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import ABSENT, Cell, Section, Table, Value, text_table
from analysis.means import Mean, mean_cell
from analysis.statistics import CONFIDENCE
from analysis.tables import table
from analysis.tables.ranking import pose_heading
from analysis.views import PARAMETERS_TOLERANCE, BudgetRow, ParametersRow, equal_epochs, equal_flops, equal_parameters

_BUDGET_HEADINGS = ("Variant", "Baseline", "Epochs", "FLOPs", "Validation %", "n", "Validation difference")
_PARAMETERS_HEADINGS = ("Variant", "Parameters", "As large", "Its parameters", "Test difference", "n")
_AT_LEAST = "training FLOPs"
"""The view whose numbers are what an arm does at least: in it no difference is marked as one."""


@table("views")
def views(findings: Findings) -> Table | None:
    """Up to three sections a pose; None where no view compares anything."""
    study = findings.study
    budgets = {"epochs": equal_epochs(study), _AT_LEAST: equal_flops(study)}
    parameters = equal_parameters(study)
    compared = [row.difference for rows in budgets.values() for row in rows] + [row.difference for row in parameters]
    if not any(difference is not None and difference.num for difference in compared):
        return None
    unit = flop_unit(row.train_flops for rows in budgets.values() for row in rows)
    sections = []
    for pose in dict.fromkeys(arm.pose for arm in study.arms):
        of_pose = f"{pose_heading(pose, study.arms)}: at" if pose_heading(pose, study.arms) else "At"
        for name, rows in budgets.items():
            chosen = [row for row in rows if row.pose == pose]
            if any(row.val_accuracy.num for row in chosen):
                cells = [_budget_cells(row, unit, marked=name != _AT_LEAST) for row in chosen]
                text = text_table(_BUDGET_HEADINGS, "llrrrrr", cells)
                heading = f"{of_pose} equal {name}" + (" (at least)" if name == _AT_LEAST else "")
                sections.append(Section(heading, text, tuple(row.keys for row in chosen)))
        matched = [row for row in parameters if row.pose == pose and row.match is not None]
        if matched:
            text = text_table(_PARAMETERS_HEADINGS, "lrlrrr", [_parameters_cells(row) for row in matched])
            sections.append(Section(f"{of_pose} equal parameters", text, tuple(row.keys for row in matched)))
    values: list[tuple[Value, ...]] = []
    for name, rows in budgets.items():
        for row in rows:
            numbers = (row.epochs, row.train_flops, row.budget_flops, None, None, *row.val_accuracy)
            own = (study.name, f"equal {name}", row.pose, row.variant, row.baseline)
            values.append((*own, *numbers, *(row.difference or (None, None, None)), " ".join(row.keys)))
    for found in parameters:
        place = (study.name, "equal parameters", found.pose, found.variant, found.match)
        sizes = (None, None, None, found.num_parameters, found.match_parameters, None, None, None)
        values.append((*place, *sizes, *(found.difference or (None, None, None)), " ".join(found.keys)))
    columns: tuple[str, ...] = ("study", "view", "pose")
    columns += ("variant", "compared_with", "epochs", "train_flops", "budget_flops")
    columns += ("num_parameters", "compared_num_parameters", "val_accuracy", "val_accuracy_half_width")
    columns += ("val_accuracy_num_runs", "difference", "difference_half_width", "difference_num_pairs", "run_keys")
    title = f"Equal epochs, FLOPs and parameters on {study.task_label}"
    return Table(study.name, "views", title, tuple(sections), _notes(), columns, tuple(values))


def _budget_cells(row: BudgetRow, unit: tuple[int, str], *, marked: bool) -> tuple[Cell, ...]:
    return (
        Cell(row.variant),
        Cell(ABSENT if row.difference is None else row.baseline),
        count_cell(row.epochs),
        flop_cell(row.train_flops, unit),
        mean_cell(row.val_accuracy),
        Cell(str(row.val_accuracy.num), row.val_accuracy.num),
        _difference(row.difference, marked=marked),
    )


def _parameters_cells(row: ParametersRow) -> tuple[Cell, ...]:
    num = row.difference.num if row.difference else 0
    return (
        Cell(row.variant),
        count_cell(row.num_parameters),
        Cell(row.match or ABSENT),
        count_cell(row.match_parameters),
        _difference(row.difference, marked=True),
        Cell(str(num), num),
    )


def _difference(difference: Mean | None, *, marked: bool) -> Cell:
    if difference is None:
        return Cell(ABSENT)
    return mean_cell(difference, signed=True, mark=" *" if marked and difference.excludes_zero else "")


def _notes() -> tuple[str, ...]:
    return (
        "At equal training FLOPs (at least): a costlier arm is seen on its way, before its learning rate has come "
        "down. Trained for this budget it would likely do better, so read its validation accuracy as the least it can "
        "do, and take no decision from the differences; none is marked. Each arm is seen after the whole epochs that "
        "the FLOPs of the pose's cheapest arm pay for.",
        "At equal epochs: validation accuracy after as many epochs as every arm of the pose has.",
        "At equal parameters: the test accuracy of an arm with a spatial transformer beside that of the arm without "
        f"one, and of the same policy, that is nearest in size, within {100 * PARAMETERS_TOLERANCE:g} %; and the other "
        "way round.",
        "Differences are in percentage points, paired by seed, ± the half width of the "
        f"{100 * CONFIDENCE:g} % Student-t interval; a * marks an interval that excludes 0, not corrected for the "
        "number of comparisons.",
    )
