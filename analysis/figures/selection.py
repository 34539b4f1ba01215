"""Which variants a figure has room for, and how it calls them."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import pandas as pd

from analysis.ablation import Row
from analysis.evaluations import Maps, read_maps
from analysis.figures.style import shortened, wrapped_name
from analysis.findings import Findings
from analysis.records import Study
from analysis.scores import completed_finals

MOST_RUNS = 10
"""Runs of a variant whose maps are shown."""

Item = TypeVar("Item")
Key = TypeVar("Key")


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items by key, both in order of appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def first(items: Sequence[Item], most: int, what: str) -> tuple[Sequence[Item], str]:
    """At most so many of the items, and a line that says so; "" if all."""
    return items[:most], f"the first {most} of {len(items)} {what}" if len(items) > most else ""


def selected(study: Study, arms: Iterable[int], most: int) -> tuple[list[int], str]:
    """At most so many of the arms (indices into study.arms), in their order, and a line that says which; "" if all.

    Chosen are the most accurate of each pose, of all poses in turn: by mean test accuracy of the completed final runs,
    else by the best validation accuracy of a trial.
    """
    arms = sorted(arms)
    if len(arms) <= most:
        return arms, ""
    accuracies = _accuracies(study.runs)
    best_first = sorted(arms, key=lambda arm: (-accuracies.get(arm, -1.0), arm))
    of_pose = grouped(best_first, lambda arm: study.arms[arm].pose)
    ranked = sorted((rank, arm) for ranks in of_pose.values() for rank, arm in enumerate(ranks))
    where = " at their poses" if len(of_pose) > 1 else ""
    return sorted(arm for _, arm in ranked[:most]), f"the {most} most accurate of {len(arms)} variants{where}"


def selected_rows(findings: Findings, arms: Iterable[int], most: int) -> tuple[dict[str, list[Row]], str]:
    """The selected arms as rows of the ablation table, by pose, and the line on which they are."""
    arms, note = selected(findings.study, arms, most)
    return grouped((findings.rows[arm] for arm in arms), lambda row: row.pose), note


def _accuracies(runs: pd.DataFrame) -> dict[int, float]:
    trials = runs[(runs["stage"] == "trial") & (runs["status"] == "completed")]
    best = trials.groupby("arm")["val_accuracy"].max().dropna()
    finals = completed_finals(runs).groupby("arm")["test_accuracy"].mean().dropna()
    # A test accuracy is no better or worse than a validation accuracy: an arm that has one goes first.
    return dict(finals.combine_first(best - 1))


def keys_of_arms(findings: Findings) -> dict[int, list[str]]:
    """The keys of the completed final runs by arm, in their order."""
    return {int(str(arm)): list(keys) for arm, keys in findings.completed.groupby("arm", sort=True)["key"]}


def has_predictions(study: Study, key: str) -> bool:
    return (study.ledger / "runs" / key / "predictions.safetensors").is_file()


def maps_of_arms(findings: Findings, most: int) -> tuple[dict[int, list[Maps]], str]:
    """The maps of at most so many arms' transformers, MOST_RUNS runs of each, and a line that says which arms."""
    study, keys = findings.study, keys_of_arms(findings)
    arms, note = selected(study, [arm for arm in keys if read_maps(study, keys[arm][0])], most)
    return {arm: [maps for key in keys[arm][:MOST_RUNS] if (maps := read_maps(study, key))] for arm in arms}, note


def has_poses(study: Study) -> bool:
    """Whether it has several, so that a variant's name alone does not say which arm is meant."""
    return len({arm.pose for arm in study.arms}) > 1


def arm_label(study: Study, arm: int, width: int) -> str:
    """The arm's variant on as many lines as it needs, and its pose where the study has several."""
    label = wrapped_name(study.arms[arm].variant, width)
    return f"{label}\n{pose_label(study.arms[arm].pose, width)}" if has_poses(study) else label


def pose_label(pose: str, width: int) -> str:
    """The word and the pose, on as many lines as it needs."""
    return wrapped_name(f"pose {pose}", width)


def parameter_label(name: str, width: int) -> str:
    """A hyper-parameter's dotted name, broken after its first dot where it is longer than `width`."""
    owner, _, own = name.partition(".")
    if len(name) <= width or not own:
        return shortened(name, width)
    return f"{shortened(owner, width - 1)}.\n{shortened(own, width)}"
