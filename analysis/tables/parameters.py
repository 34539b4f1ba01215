"""Arms beside others that are as large: the same parameters in a spatial transformer, and in the classifier."""

from analysis.equal_parameters import PARAMETERS_TOLERANCE, ParametersRow, equal_parameters
from analysis.findings import Findings
from analysis.flops import count_cell
from analysis.formats import Cell
from analysis.means import mean_cell
from analysis.statistics import CONFIDENCE
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, VARIANT, Column, Draft, mean_names, pose_sections


@table("parameters", "Equal parameters")
def parameters(findings: Findings) -> Draft[ParametersRow] | None:
    """A section a pose; None where no arm is as large as one of the other kind."""
    study = findings.study
    matched = [row for row in equal_parameters(study) if row.match is not None]
    if not any(row.difference is not None and row.difference.num for row in matched):
        return None
    columns: list[Column[ParametersRow]] = [
        POSE,
        VARIANT,
        Column("", "compared_with", value=lambda row: row.match),
        Column("Parameters", "num_parameters", "r", lambda row: count_cell(row.num_parameters)),
        Column("As large", "", "l", lambda row: row.match),
        Column("Its parameters", "compared_num_parameters", "r", lambda row: count_cell(row.match_parameters)),
        Column(
            "Test difference", mean_names("difference"), "r", _difference, lambda row: row.difference or (None,) * 3
        ),
        Column("n", cell=lambda row: row.difference.num if row.difference else 0),
        RUN_KEYS,
    ]
    notes = (
        "The test accuracy of an arm with a spatial transformer beside that of the arm without one, and of the same "
        f"policy, that is nearest in size, within {100 * PARAMETERS_TOLERANCE:g} %; and the other way round. "
        "Differences are in percentage points, paired by seed, ± the half width of the "
        f"{100 * CONFIDENCE:g} % Student-t interval; a * marks an interval that excludes 0, not corrected for the "
        "number of comparisons.",
    )
    sections = pose_sections(study, columns, matched)
    return Draft(sections, notes, columns, matched)


def _difference(row: ParametersRow) -> Cell | None:
    difference = row.difference
    return difference and mean_cell(difference, signed=True, mark=" *" if difference.excludes_zero else "")
