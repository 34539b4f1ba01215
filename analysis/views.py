"""A study seen three ways: at equal epochs, at equal training FLOPs, at equal parameters.

equal_epochs(study), equal_flops(study): a BudgetRow an arm, in the order of the study: its validation accuracy after
as many epochs, or FLOPs, as every arm of its pose spent, and the difference to its baseline there.
equal_parameters(study): a ParametersRow an arm: the arm of another network and the same policy that is as large, and
the difference in test accuracy.
All are over completed final runs, paired by seed; accuracies and differences are fractions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.evaluations import read_histories
from analysis.gap import CEILING
from analysis.means import Mean, mean_of
from analysis.names import name_and_options, variant_parts
from analysis.records import Study
from analysis.statistics import mean_interval

PARAMETERS_TOLERANCE = 0.05
"""Networks whose parameter counts differ by at most this share are equally large."""

NO_MEAN = Mean(math.nan, math.nan, 0)


@dataclass(frozen=True)
class BudgetRow:
    """An arm at the budget that all arms of its pose can spend.

    epochs: whole epochs within the budget; 0 where a single one costs more, None where the arm has no completed run.
    train_flops: spent in these epochs; budget_flops: that could be spent; None where unknown or not asked for.
    val_accuracy: after these epochs. difference: of it to the baseline's at the same budget; None where the arm is its
    own baseline. Both have num 0 where nothing is known. keys: of the arm's runs that val_accuracy is over.
    """

    pose: str
    variant: str
    baseline: str
    epochs: int | None
    train_flops: float | None
    budget_flops: float | None
    val_accuracy: Mean
    difference: Mean | None
    keys: tuple[str, ...]


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


def equal_epochs(study: Study) -> tuple[BudgetRow, ...]:
    """Every arm after as many epochs as the shortest completed final run of its pose had.

    Where all runs had the same epochs, as one protocol gives them, these are the last ones.
    """
    finals = _finals(study)
    shortest = finals.groupby("pose")["epochs"].min().dropna()
    arms = set(finals["arm"])
    afforded = {i: int(shortest[arm.pose]) for i, arm in enumerate(study.arms) if i in arms and arm.pose in shortest}
    return _budget_rows(study, finals, afforded, {})


def equal_flops(study: Study) -> tuple[BudgetRow, ...]:
    """Every arm after the whole epochs that the FLOPs of the cheapest arm of its pose pay for.

    What a run had reached on its way, read from its history: its learning rate was annealed for the whole training, so
    a costly arm is seen before it has settled, and would likely do better if it were trained for this budget. Read the
    accuracies of all but the cheapest arm as lower bounds.
    """
    finals = _finals(study)
    per_arm = finals.groupby("arm")[["train_flops", "epochs"]].median()
    budgets: dict[str, float] = {}
    for i, flops in per_arm["train_flops"].dropna().items():
        pose = study.arms[int(str(i))].pose
        budgets[pose] = min(budgets.get(pose, math.inf), flops)
    afforded: dict[int, int] = {}
    for i, flops, epochs in per_arm.dropna().itertuples(name=None):
        budget = budgets[study.arms[i].pose]
        afforded[i] = int(epochs if flops <= budget else budget * epochs / flops)
    return _budget_rows(study, finals, afforded, budgets)


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


def _budget_rows(
    study: Study, finals: pd.DataFrame, afforded: Mapping[int, int], budgets: Mapping[str, float]
) -> tuple[BudgetRow, ...]:
    histories = read_histories(study, finals["key"])
    runs = finals.assign(epoch=finals["arm"].map(dict(afforded))).drop(columns="val_accuracy")
    scores = _by_seed(runs.merge(histories, on=["key", "epoch"]), "val_accuracy")
    flops = finals.groupby("arm")["train_flops"].median() / finals.groupby("arm")["epochs"].median()
    index = {(arm.pose, arm.variant): i for i, arm in enumerate(study.arms)}
    return tuple(
        BudgetRow(
            pose=arm.pose,
            variant=arm.variant,
            baseline=arm.baseline,
            epochs=afforded.get(i),
            train_flops=_spent(flops.get(i, math.nan), afforded.get(i)),
            budget_flops=budgets.get(arm.pose),
            val_accuracy=_mean([score for _, score in scores.get(i, {}).values()]),
            difference=_difference(scores, i, index[arm.pose, arm.baseline]),
            keys=tuple(key for key, _ in scores.get(i, {}).values()),
        )
        for i, arm in enumerate(study.arms)
    )


def _spent(flops_per_epoch: float, epochs: int | None) -> float | None:
    return None if epochs is None or math.isnan(flops_per_epoch) else float(flops_per_epoch * epochs)


def _parameters_row(
    study: Study, i: int, same: Mapping[tuple[str, str], list[int]], sizes: Mapping[int, int], scores: Scores
) -> ParametersRow:
    arm, size = study.arms[i], sizes.get(i)
    near = [
        (abs(sizes[other] - size), other)
        for other in same[arm.pose, variant_parts(arm.variant).policy]
        if size is not None and other in sizes
        if _is_transformed(arm.variant) != _is_transformed(study.arms[other].variant)
        if abs(sizes[other] - size) <= PARAMETERS_TOLERANCE * size
        if CEILING not in (variant_parts(arm.variant).model, variant_parts(study.arms[other].variant).model)
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


def _is_transformed(variant: str) -> bool:
    name, _ = name_and_options(variant_parts(variant).model)
    return name == "stn" or name.startswith("stn_")


def _shared(scores: Scores, one: int, other: int) -> list[int]:
    return sorted(scores.get(one, {}).keys() & scores.get(other, {}).keys())


def _difference(scores: Scores, one: int, other: int) -> Mean | None:
    if one == other:
        return None
    return _mean([scores[one][seed][1] - scores[other][seed][1] for seed in _shared(scores, one, other)])


def _mean(scores: list[float]) -> Mean:
    return mean_of(mean_interval([scores]), 0) if scores else NO_MEAN
