"""Arms beside others that are as large: are parameters worth more in a spatial transformer, or in the classifier?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.means import Mean, mean_of
from analysis.records import Study
from analysis.scores import FinalScores, completed_finals, final_scores
from analysis.statistics import paired_difference
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


def equal_parameters(study: Study) -> tuple[ParametersRow, ...]:
    """Every arm beside an equally large one, as "a spatial transformer, or the same parameters in the classifier?"."""
    finals = completed_finals(study.runs)
    sizes = {int(str(i)): int(size) for i, size in finals.groupby("arm")["num_parameters"].median().dropna().items()}
    scores = final_scores(study)
    policies = [variant_parts(arm.variant).policy for arm in study.arms]
    return tuple(_parameters_row(scores, i, sizes, policies) for i in range(len(study.arms)))


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
