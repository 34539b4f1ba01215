"""Which variants a figure has room for, and how it calls them."""

from collections.abc import Iterable

import pandas as pd

from analysis.ablation import Row
from analysis.figures.style import shortened, wrapped_name
from analysis.findings import Findings
from analysis.records import Study
from analysis.scores import completed_finals


def selected(study: Study, arms: Iterable[int], most: int) -> tuple[list[int], str]:
    """At most so many of the arms (indices into study.arms), in their order, and a line that says which; "" if all.

    Chosen are the most accurate of each pose, of all poses in turn: by mean test accuracy of the completed final runs,
    else by the best validation accuracy of a trial.
    """
    arms = sorted(arms)
    if len(arms) <= most:
        return arms, ""
    accuracies = _accuracies(study.runs)
    of_pose: dict[str, list[int]] = {}
    for arm in sorted(arms, key=lambda arm: (-accuracies.get(arm, -1.0), arm)):
        of_pose.setdefault(study.arms[arm].pose, []).append(arm)
    ranked = sorted((rank, arm) for ranks in of_pose.values() for rank, arm in enumerate(ranks))
    where = " at their poses" if len(of_pose) > 1 else ""
    return sorted(arm for _, arm in ranked[:most]), f"the {most} most accurate of {len(arms)} variants{where}"


def selected_rows(findings: Findings, arms: Iterable[int], most: int) -> tuple[dict[str, list[Row]], str]:
    """The same as rows of the ablation table, by pose."""
    arms, note = selected(findings.study, arms, most)
    names = {(findings.study.arms[arm].pose, findings.study.arms[arm].variant) for arm in arms}
    rows: dict[str, list[Row]] = {}
    for row in findings.rows:
        if (row.pose, row.variant) in names:
            rows.setdefault(row.pose, []).append(row)
    return rows, note


def _accuracies(runs: pd.DataFrame) -> dict[int, float]:
    trials = runs[(runs["stage"] == "trial") & (runs["status"] == "completed")]
    best = trials.groupby("arm")["val_accuracy"].max().dropna()
    finals = completed_finals(runs).groupby("arm")["test_accuracy"].mean().dropna()
    # A test accuracy is no better or worse than a validation accuracy: whoever has one goes first.
    scores = {**(best - 1).to_dict(), **finals.to_dict()}
    return {int(str(arm)): float(score) for arm, score in scores.items()}


def arm_label(study: Study, arm: int, width: int) -> str:
    """The arm's variant on as many lines as it needs, and its pose where the study has several."""
    label = wrapped_name(study.arms[arm].variant, width)
    if len({each.pose for each in study.arms}) == 1:
        return label
    return f"{label}\n{pose_label(study.arms[arm].pose, width)}"


def pose_label(pose: str, width: int) -> str:
    """The word and the pose, on as many lines as it needs."""
    return wrapped_name(f"pose {pose}", width)


def lines(*parts: str) -> str:
    """The parts that are not empty, one under the other."""
    return "\n".join(part for part in parts if part)


def keys_of_arms(runs: pd.DataFrame) -> dict[int, list[str]]:
    """The keys of these runs by arm, in their order."""
    return {int(str(arm)): list(keys) for arm, keys in runs.groupby("arm", sort=True)["key"]}


def grid_shape(num: int, columns: int) -> tuple[int, int]:
    """Rows and columns of so many panels."""
    columns = max(1, min(num, columns))
    return -(-num // columns), columns


def parameter_label(name: str, width: int) -> str:
    """A hyper-parameter's dotted name, broken after its first dot where it is longer than `width`."""
    owner, _, own = name.partition(".")
    if len(name) <= width or not own:
        return shortened(name, width)
    return f"{shortened(owner, width - 1)}.\n{shortened(own, width)}"
