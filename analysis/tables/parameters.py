"""Arms beside others that are as large: are parameters worth more in a spatial transformer, or in the classifier?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.findings import Findings
from analysis.flops import count_cell
from analysis.means import Mean, mean_of
from analysis.scores import FinalScores
from analysis.statistics import CONFIDENCE, paired_difference
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, VARIANT, Column, Draft, mean_column, pose_sections, star
from ledger.names import variant_parts
from ledger.roles import WITH_TRANSFORMER
from ledger.study import Claim

PARAMETERS_TOLERANCE = 0.05
"""Networks whose parameter counts differ by at most this share are equally large."""


@dataclass(frozen=True)
class ParametersRow:
    """An arm and its match: of the arms at its pose with the same policy and another network, the one nearest in size.

    One with a spatial transformer is matched with one without, and the other way round: what the same parameters are
    worth elsewhere. The network that is told the true pose takes no part.

    num_parameters: None where no run has them. match, match_parameters, difference: None where no arm is as large,
    within PARAMETERS_TOLERANCE. difference: of the test accuracy to the match's. keys: of the runs it is over.
    """

    pose: str
    variant: str
    num_parameters: int | None
    match: str | None
    match_parameters: int | None
    difference: Mean | None
    keys: tuple[str, ...]


@table("parameters", "Equal parameters")
def parameters(findings: Findings) -> Draft[ParametersRow] | None:
    """A section a pose; None where no arm is as large as one of the other kind."""
    study = findings.study
    matched = [row for row in equal_parameters(findings) if row.match is not None]
    if not any(row.difference is not None and row.difference.num for row in matched):
        return None
    columns: list[Column[ParametersRow]] = [
        POSE,
        VARIANT,
        Column("", "compared_with", value=lambda row: row.match),
        Column("Parameters", "num_parameters", "r", lambda row: count_cell(row.num_parameters)),
        Column("As large", "", "l", lambda row: row.match),
        Column("Its parameters", "compared_num_parameters", "r", lambda row: count_cell(row.match_parameters)),
        mean_column(
            "Test difference", "difference", lambda row: row.difference, signed=True,
            mark=lambda row: star(row.difference),
        ),
        Column("n", cell=lambda row: row.difference.num if row.difference else 0),
        RUN_KEYS,
    ]  # fmt: skip
    notes = (
        "The test accuracy of an arm with a spatial transformer beside that of the arm without one, and of the same "
        f"policy, that is nearest in size, within {100 * PARAMETERS_TOLERANCE:g} %; and the other way round. "
        "Differences are in percentage points, paired by seed, ± the half width of the "
        f"{100 * CONFIDENCE:g} % Student-t interval; a * marks an interval that excludes 0, not corrected for the "
        "number of comparisons.",
    )
    sections = pose_sections(study, columns, matched)
    return Draft(sections, notes, columns, matched)


def equal_parameters(findings: Findings) -> tuple[ParametersRow, ...]:
    """Every arm beside an equally large one."""
    scores, of_arm = findings.scores, findings.completed.groupby("arm")["num_parameters"]
    sizes = {int(str(i)): int(size) for i, size in of_arm.median().dropna().items()}
    policies = [variant_parts(arm.variant).policy for arm in scores.study.arms]
    return tuple(_parameters_row(scores, i, sizes, policies) for i in range(len(policies)))


def _parameters_row(scores: FinalScores, i: int, sizes: Mapping[int, int], policies: Sequence[str]) -> ParametersRow:
    arms, size = scores.study.arms, sizes.get(i)
    pose, variant = arms[i].pose, arms[i].variant
    near = [
        (abs(size_of_other - size), other)
        for other, size_of_other in sizes.items()
        if size is not None and abs(size_of_other - size) <= PARAMETERS_TOLERANCE * size
        if (pose, policies[i]) == (arms[other].pose, policies[other])
        if (arms[i].role in WITH_TRANSFORMER) != (arms[other].role in WITH_TRANSFORMER)
        if "ceiling" not in (arms[i].role, arms[other].role)
    ]
    if not near:
        return ParametersRow(pose, variant, size, None, None, None, ())
    _, other = min(near)
    match = arms[other].variant
    difference = mean_of(paired_difference(scores.test_AS[[i]], scores.test_AS[[other]]), 0)
    keys = scores.pairs(Claim(pose, variant, match)).keys
    return ParametersRow(pose, variant, size, match, sizes[other], difference, keys)
