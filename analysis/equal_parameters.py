"""Arms beside others that are as large: are parameters worth more in a spatial transformer, or in the classifier?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.means import Mean, mean_of
from analysis.names import variant_parts
from analysis.records import Study
from analysis.statistics import mean_interval
from ledger.roles import WITH_TRANSFORMER

PARAMETERS_TOLERANCE = 0.05
"""Networks whose parameter counts differ by at most this share are equally large."""

NO_MEAN = Mean(math.nan, math.nan, 0)


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
    finals = _finals(study)
    sizes = {int(str(i)): int(size) for i, size in finals.groupby("arm")["num_parameters"].median().dropna().items()}
    scores = _by_seed(finals, "test_accuracy")
    same: dict[tuple[str, str], list[int]] = {}
    for i, arm in enumerate(study.arms):
        same.setdefault((arm.pose, variant_parts(arm.variant).policy), []).append(i)
    return tuple(_parameters_row(study, i, same, sizes, scores) for i in range(len(study.arms)))


Scores = Mapping[int, Mapping[int, tuple[str, float]]]
"""By arm, then by seed: a run's key and its score."""


def _finals(study: Study) -> pd.DataFrame:
    runs = study.runs
    return runs[(runs["stage"] == "final") & (runs["status"] == "completed")]


def _by_seed(runs: pd.DataFrame, score: str) -> Scores:
    by_arm: dict[int, dict[int, tuple[str, float]]] = {}
    kept = runs[runs[score].notna()]
    columns = (kept[name].tolist() for name in ("arm", "seed", "key", score))
    for arm, seed, key, value in zip(*columns, strict=True):
        by_arm.setdefault(arm, {})[int(seed)] = key, value
    return by_arm


def _parameters_row(
    study: Study, i: int, same: Mapping[tuple[str, str], list[int]], sizes: Mapping[int, int], scores: Scores
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
    seeds = _shared(scores, i, other)
    return ParametersRow(
        arm.pose,
        arm.variant,
        size,
        study.arms[other].variant,
        sizes[other],
        _difference(scores, i, other),
        tuple(scores[one][seed][0] for one in (i, other) for seed in seeds),
    )


def _shared(scores: Scores, one: int, other: int) -> list[int]:
    return sorted(scores.get(one, {}).keys() & scores.get(other, {}).keys())


def _difference(scores: Scores, one: int, other: int) -> Mean | None:
    if one == other:
        return None
    return _mean([scores[one][seed][1] - scores[other][seed][1] for seed in _shared(scores, one, other)])


def _mean(scores: list[float]) -> Mean:
    return mean_of(mean_interval([scores]), 0) if scores else NO_MEAN
