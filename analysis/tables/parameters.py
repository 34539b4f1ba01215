"""Arms beside others that are as large: the same parameters in a spatial transformer, and in the classifier."""

from analysis.equal_parameters import PARAMETERS_TOLERANCE, ParametersRow, equal_parameters
from analysis.findings import Findings
from analysis.flops import count_cell
from analysis.formats import ABSENT, Cell, Section, Table, text_table
from analysis.means import mean_cell
from analysis.statistics import CONFIDENCE
from analysis.tables import table
from analysis.tables.ranking import pose_heading

_HEADINGS = ("Variant", "Parameters", "As large", "Its parameters", "Test difference", "n")


@table("parameters")
def parameters(findings: Findings) -> Table | None:
    """A section a pose; None where no arm is as large as one of the other kind."""
    study = findings.study
    matched = [row for row in equal_parameters(study) if row.match is not None]
    if not any(row.difference is not None and row.difference.num for row in matched):
        return None
    sections = []
    for pose in dict.fromkeys(row.pose for row in matched):
        of_pose = [row for row in matched if row.pose == pose]
        text = text_table(_HEADINGS, "lrlrrr", list(map(_cells, of_pose)))
        sections.append(Section(pose_heading(pose, study.arms), text, tuple(row.keys for row in of_pose)))
    rows = tuple(
        (
            *(study.name, row.pose, row.variant, row.match, row.num_parameters, row.match_parameters),
            *(row.difference or (None, None, None)),
            " ".join(row.keys),
        )
        for row in matched
    )
    columns = (
        *("study", "pose", "variant", "compared_with", "num_parameters", "compared_num_parameters"),
        *("difference", "difference_half_width", "difference_num_pairs", "run_keys"),
    )
    notes = (
        "The test accuracy of an arm with a spatial transformer beside that of the arm without one, and of the same "
        f"policy, that is nearest in size, within {100 * PARAMETERS_TOLERANCE:g} %; and the other way round. "
        "Differences are in percentage points, paired by seed, ± the half width of the "
        f"{100 * CONFIDENCE:g} % Student-t interval; a * marks an interval that excludes 0, not corrected for the "
        "number of comparisons.",
    )
    title = f"Equal parameters on {study.task_label}"
    return Table(study.name, "parameters", title, tuple(sections), notes, columns, rows)


def _cells(row: ParametersRow) -> tuple[Cell, ...]:
    difference = row.difference
    return (
        Cell(row.variant),
        count_cell(row.num_parameters),
        Cell(row.match or ABSENT),
        count_cell(row.match_parameters),
        Cell(ABSENT)
        if difference is None
        else mean_cell(difference, signed=True, mark=" *" if difference.excludes_zero else ""),
        Cell(str(difference.num if difference else 0), difference.num if difference else 0),
    )
