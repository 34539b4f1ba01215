"""Arms beside others that are as large: are parameters worth more in a spatial transformer, or in the classifier?"""

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.means import Mean, mean_of
from analysis.names import variant_parts
from analysis.pairs import Arms, pairs_of, runs_by_seed, signed
from analysis.records import Study
from analysis.scores import completed_finals
from analysis.statistics import mean_interval
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
    by_arm = runs_by_seed(study.runs)
    same: dict[tuple[str, str], list[int]] = {}
    for i, arm in enumerate(study.arms):
        same.setdefault((arm.pose, variant_parts(arm.variant).policy), []).append(i)
    return tuple(_parameters_row(study, i, same, sizes, by_arm) for i in range(len(study.arms)))


def _parameters_row(
    study: Study, i: int, same: Mapping[tuple[str, str], list[int]], sizes: Mapping[int, int], by_arm: Arms
) -> ParametersRow:
    arm, size = study.arms[i], sizes.get(i)
    near = [
        (abs(sizes[other] - size), other)
        for other in same[arm.pose, variant_parts(arm.variant).policy]
        if size is not None and other in sizes
        if (arm.role in WITH_TRANSFORMER) != (study.arms[other].role in WITH_TRANSFORMER)
        if abs(sizes[other] - size) <= PARAMETERS_TOLERANCE * size
        if "ceiling" not in (arm.role, study.arms[other].role)
    ]
    if not near:
        return ParametersRow(arm.pose, arm.variant, size, None, None, None, ())
    _, other = min(near)
    match = study.arms[other].variant
    pairs = pairs_of(Claim(arm.pose, arm.variant, match), by_arm).values()
    difference = mean_of(mean_interval([[signed(run.accuracy for run in pair) for pair in pairs]]), 0)
    keys = tuple(run.key for one in zip(*pairs, strict=True) for run in one)
    return ParametersRow(arm.pose, arm.variant, size, match, sizes[other], difference, keys)
