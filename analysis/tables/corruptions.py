"""How well variants stand corrupted images: by corruption and by severity."""

import pandas as pd

from analysis.findings import Findings
from analysis.formats import Section, Table, Value
from analysis.means import mean_of
from analysis.scores import FinalScores, final_scores
from analysis.statistics import Floats, mean_interval
from analysis.tables import table
from analysis.tables.ranking import arms_by_pose, pose_heading, ranking_note
from analysis.tables.score_grid import grid_section

_KINDS = ("geometric", "photometric")


@table("corruptions")
def corruptions(findings: Findings) -> Table | None:
    """Two sections a pose and kind of corruption; None where no run was measured so."""
    study, scores = findings.study, final_scores(findings.study)
    points = findings.robustness
    points = points[points["kind"].isin(_KINDS) & points["key"].isin(scores.finals["key"])]
    if points.empty:
        return None
    measured = set(points["key"])
    keys = [tuple(key for key in own if key in measured) for own in scores.keys]
    grids: dict[str, dict[str, Floats]] = {}
    for kind in _KINDS:
        of_kind = points[points["kind"] == kind]
        by_name = {str(name): _means(scores, at) for name, at in of_kind.groupby("name", sort=False)}
        by_severity = {f"severity {value:g}": _means(scores, at) for value, at in of_kind.groupby("value")}
        grids[f"{kind} corruptions, mean over severities"] = by_name
        grids[f"{kind} corruptions, mean over corruptions"] = by_severity
    sections: list[Section] = []
    for pose, places in arms_by_pose(study.arms).items():
        places = [i for i in places if keys[i]]
        of_pose = f"{pose_heading(pose, study.arms)}: " if pose_heading(pose, study.arms) else ""
        for what, score_of in grids.items():
            if places and score_of:
                heading = of_pose + what
                sections.append(grid_section(heading[:1].upper() + heading[1:], score_of, places, scores, keys))
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        "Numbers are mean test accuracies in per cent over the n completed final runs that were measured; intervals, "
        "and every corruption at every severity, are in the CSV file.",
        "Corruptions and severities 1 to 5 are in the manner of CIFAR-10-C and made anew from this task's images: "
        "numbers of the published files do not compare with these.",
    )
    columns: tuple[str, ...] = ("study", "pose", "variant")
    columns += ("kind", "corruption", "severity", "accuracy", "accuracy_half_width")
    columns += ("accuracy_num_runs", "run_keys")
    by_arm: dict[int, list[tuple[Value, ...]]] = {i: [] for i in range(len(keys))}
    joined = [" ".join(own) for own in keys]
    for (family, name, severity), at in points.groupby(["kind", "name", "value"], sort=False):
        estimate = mean_interval(scores.spread(at, at["accuracy"]))
        for i, arm in enumerate(study.arms):
            if estimate.num_X[i]:
                place = (study.name, arm.pose, arm.variant, str(family), str(name), float(str(severity)))
                by_arm[i].append((*place, *mean_of(estimate, i), joined[i]))
    rows = tuple(row for rows in by_arm.values() for row in rows)
    title = f"Corrupted images on {study.task_label}"
    return Table(study.name, "corruptions", title, tuple(sections), notes, columns, rows)


def _means(scores: FinalScores, points: pd.DataFrame) -> Floats:
    """AS: each run's mean accuracy over these points."""
    means = points.groupby(["arm", "seed"])["accuracy"].mean().reset_index()
    return scores.spread(means, means["accuracy"])
