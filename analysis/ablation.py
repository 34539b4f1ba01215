"""What is known of each variant at each pose, in numbers: the rows that most tables and figures show some of."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.formats import ABSENT, one_line
from analysis.gap import Share, shares
from analysis.means import Mean, mean_of
from analysis.records import Study
from analysis.ripeness import Trained, is_ripe
from analysis.run_records import HYPER_PARAMETERS
from analysis.scores import FinalScores
from analysis.statistics import Floats, mean_interval, paired_difference

Run = dict[Hashable, Any]
"""A row of Study.runs."""

_STATUSES = ("completed", "pruned", "diverged", "failed", "missing")


class FinalRun(NamedTuple):
    """A final run that the study lists. averaged: whether its test accuracy is in the mean."""

    key: str
    status: str
    averaged: bool


@dataclass(frozen=True)
class Row:
    """A variant at a pose, in numbers; accuracies are fractions.

    difference: of the test accuracy to the baseline's, paired by seed; None where the variant is its own baseline.
    is_ripe: whether both were trained long enough for that to be called a difference (ripeness.py).
    gap_closed: share of the gap between the plain network and unwarped images; None where the pose lacks such an arm.
    test_by_seed, difference_by_seed: what the means are over.
    num_parameters, train_flops, predict_flops, predict_passes: of one final run; None if no run has them. train_flops
        is for the whole training, the last two are for a prediction.
    final_statuses, trial_statuses: counts, in a fixed order. hyper_parameters: of the winner, by dotted name; of the
        final runs where nothing was tuned.
    """

    pose: str
    variant: str
    baseline: str
    val_accuracy: Mean
    test_accuracy: Mean
    difference: Mean | None
    is_ripe: bool
    gap_closed: Share | None
    test_by_seed: dict[int, float]
    difference_by_seed: dict[int, float]
    num_parameters: int | None
    train_flops: float | None
    predict_flops: float | None
    predict_passes: float | None
    final_statuses: dict[str, int]
    trial_statuses: dict[str, int]
    finals: tuple[FinalRun, ...]
    winners: tuple[str, ...]
    hyper_parameters: dict[str, Any]

    @property
    def keys(self) -> tuple[str, ...]:
        """The runs that the means are over."""
        return tuple(run.key for run in self.finals if run.averaged)


def status_text(statuses: dict[str, int]) -> str:
    """`4 completed, 1 diverged`; empty where nothing is counted."""
    return ", ".join(f"{num} {status}" for status, num in statuses.items())


def ablation_rows(study: Study, scores: FinalScores, trained: Sequence[Trained]) -> tuple[Row, ...]:
    """A row an arm, in the order of the study. They depend on run.json and study.json only."""
    arms = study.arms
    trials: list[list[Run]] = [[] for _ in arms]
    finals: list[list[Run]] = [[] for _ in arms]
    for run in study.runs.to_dict("records"):
        (finals if run["stage"] == "final" else trials)[run["arm"]].append(run)
    test_AS = scores.test_AS
    baseline_A = np.array([study.places[arm.pose, arm.baseline] for arm in arms])
    pairs_AS = test_AS - test_AS[baseline_A]
    val, test = mean_interval(scores.array("val_accuracy")), mean_interval(test_AS)
    difference = paired_difference(test_AS, test_AS[baseline_A])
    gap_closed = shares(arms, test_AS)
    parts = tuple(f"{part}." for part in HYPER_PARAMETERS)
    # Settings that are the same in every run, such as options that are not tuned, say nothing about a row.
    tunable = sorted(
        (
            str(name)
            for name in study.runs
            if str(name).startswith("optim.")
            or (str(name).startswith(parts) and study.runs[name].dropna().astype(str).nunique() > 1)
        ),
        key=_hyper_parameter_order,
    )
    rows = []
    for i, arm in enumerate(arms):
        own = arm.variant == arm.baseline
        completed = [run for run in finals[i] if run["status"] == "completed"]
        winner = [run for run in trials[i] if run["key"] in arm.winners]
        chosen = [run for run in (winner or finals[i]) if run["status"] != "missing"]
        num_parameters = _first("num_parameters", completed + finals[i] + winner + trials[i])
        rows.append(
            Row(
                pose=arm.pose,
                variant=arm.variant,
                baseline=arm.baseline,
                val_accuracy=mean_of(val, i),
                test_accuracy=mean_of(test, i),
                difference=None if own else mean_of(difference, i),
                is_ripe=not own and is_ripe(study, [trained[i], trained[baseline_A[i]]], float(difference.mean_X[i])),
                gap_closed=gap_closed[i],
                test_by_seed=_present(scores.seeds, test_AS[i]),
                difference_by_seed={} if own else _present(scores.seeds, pairs_AS[i]),
                num_parameters=None if num_parameters is None else int(num_parameters),
                train_flops=_first("train_flops", completed),
                predict_flops=_first("predict_flops", completed),
                predict_passes=_first("predict_passes", completed),
                final_statuses=_count(finals[i]),
                trial_statuses=_count(trials[i]),
                finals=tuple(FinalRun(run["key"], run["status"], run["key"] in scores.keys[i]) for run in finals[i]),
                winners=arm.winners,
                hyper_parameters={
                    name: value for name in tunable if (value := _common_value(chosen, name)) is not None
                },
            )
        )
    return tuple(rows)


def _present(seeds: list[int], score_S: Floats) -> dict[int, float]:
    return {seed: score for seed, score in zip(seeds, score_S.tolist(), strict=True) if not math.isnan(score)}


def _first(name: str, runs: list[Run]) -> float | None:
    return next((float(run[name]) for run in runs if not math.isnan(run[name])), None)


def _common_value(runs: list[Run], name: str) -> Any:
    """What the runs have of a hyper-parameter: one value, a range, or all values; None for none."""
    values = list(dict.fromkeys(run[name] for run in runs if not pd.isna(run[name])))
    if len(values) < 2:
        return values[0] if values else None
    if any(isinstance(value, bool | str) for value in values):
        return ", ".join(sorted(map(value_text, values)))
    return f"{value_text(min(values))} to {value_text(max(values))}"


def _count(runs: list[Run]) -> dict[str, int]:
    count = Counter(run["status"] for run in runs)
    order = [*_STATUSES, *sorted(set(count) - set(_STATUSES))]
    return {status: count[status] for status in order if count[status]}


def _hyper_parameter_order(name: str) -> tuple[int, str]:
    return HYPER_PARAMETERS.index(name.partition(".")[0]), name


def trials_of_a_tuning(study: Study) -> list[int]:
    """How many settings a tuning of an arm tried, as far as that differs; without repeats of the best ones."""
    runs = study.runs[study.runs["stage"] == "trial"]
    nums = set()
    for i, arm in enumerate(study.arms):
        seeds = runs[runs["arm"] == i].drop_duplicates("key")["seed"]
        nums.add(len(set(arm.trials)) if seeds.isna().any() or seeds.empty else int((seeds == seeds.max()).sum()))
    return sorted(nums)


def hyper_parameter_names(rows: Iterable[Row]) -> list[str]:
    """Dotted names of the rows' hyper-parameters: the optimiser's first."""
    return sorted({name for row in rows for name in row.hyper_parameters}, key=_hyper_parameter_order)


def value_text(value: Any) -> str:
    """A hyper-parameter's value as people read it."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))
