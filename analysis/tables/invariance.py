"""How well variants stand images that are turned, scaled and shifted after training."""

import pandas as pd

from analysis.evaluations import read_worst_of_grid
from analysis.findings import Findings
from analysis.formats import Section, Table, Value
from analysis.means import mean_of
from analysis.scores import FinalScores, final_scores
from analysis.statistics import Floats, mean_interval
from analysis.tables import table
from analysis.tables.ranking import arms_by_pose, pose_heading, ranking_note
from analysis.tables.score_grid import grid_section

_KINDS = {
    "rotation": ("rotation, degrees anticlockwise", "°"),
    "scale": ("scale, a factor", "×"),
    "shift_x": ("shift to the right, pixels", " px"),
    "shift_y": ("shift downwards, pixels", " px"),
}
_SUMMARY = {
    "Rotated %": "rotation_accuracy",
    "Worst of grid %": "worst_of_grid_accuracy",
}


@table("invariance")
def invariance(findings: Findings) -> Table | None:
    """Accuracy and agreement by kind of transformation at each pose; None where no run was measured so."""
    study, scores = findings.study, final_scores(findings.study)
    points = findings.robustness
    points = points[points["kind"].isin(list(_KINDS)) & points["key"].isin(scores.finals["key"])]
    if points.empty:
        return None
    keys = _keys(scores, points)
    grids = {
        (kind, what): {
            _heading(str(kind), value): scores.spread(at, at[what])
            for value, at in points[points["kind"] == kind].groupby("value")
        }
        for kind in _KINDS
        for what in ("accuracy", "agreement")
    }
    summary = {heading: scores.array(name) for heading, name in _SUMMARY.items()}
    sections: list[Section] = []
    for pose, places in arms_by_pose(study.arms).items():
        places = [i for i in places if keys[i]]
        if not places:
            continue
        of_pose = f"{pose_heading(pose, study.arms)}: " if pose_heading(pose, study.arms) else ""
        sections.append(_section(of_pose + "summary", summary, places, scores, keys))
        for (kind, what), score_of in grids.items():
            if score_of:
                sections.append(_section(f"{of_pose}{what} % over {_KINDS[kind][0]}", score_of, places, scores, keys))
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        f"Numbers are means in per cent over the n completed final runs that were measured, on {_images(findings)} "
        "test images; intervals are in the CSV file. Agreement: share of the images that are given the same class as "
        "untransformed, right or wrong; more of it is not always better.",
        *_worst_note(findings, str(points["key"].iloc[0])),
    )
    columns: tuple[str, ...] = ("study", "pose", "variant")
    columns += ("kind", "value", "accuracy", "accuracy_half_width", "accuracy_num_runs")
    columns += ("agreement", "agreement_half_width", "agreement_num_runs", "run_keys")
    rows = tuple(_rows(findings, scores, points, keys))
    title = f"Invariance on {study.task_label}"
    return Table(study.name, "invariance", title, tuple(sections), notes, columns, rows)


def _section(
    heading: str, score_of: dict[str, Floats], places: list[int], scores: FinalScores, keys: list[tuple[str, ...]]
) -> Section:
    # A network that always says the same agrees with itself: more is not better
    ranking = "agreement" not in heading
    return grid_section(heading[:1].upper() + heading[1:], score_of, places, scores, keys, ranking=ranking)


def _heading(kind: str, value: object) -> str:
    text = f"{value:g}".replace("-", "−")
    unit = _KINDS[kind][1]
    return f"{unit}{text}" if unit == "×" else f"{text}{unit}"


def _keys(scores: FinalScores, points: pd.DataFrame) -> list[tuple[str, ...]]:
    """Of each arm's runs that were measured."""
    measured = set(points["key"])
    return [tuple(key for key in keys if key in measured) for keys in scores.keys]


def _rows(
    findings: Findings, scores: FinalScores, points: pd.DataFrame, keys: list[tuple[str, ...]]
) -> list[tuple[Value, ...]]:
    by_arm: dict[int, list[tuple[Value, ...]]] = {i: [] for i in range(len(keys))}
    joined = [" ".join(own) for own in keys]
    for (kind, value), at in points.groupby(["kind", "value"]):
        accuracy, agreement = (mean_interval(scores.spread(at, at[what])) for what in ("accuracy", "agreement"))
        for i, arm in enumerate(findings.study.arms):
            if accuracy.num_X[i]:
                place = (findings.study.name, arm.pose, arm.variant, str(kind), float(str(value)))
                by_arm[i].append((*place, *mean_of(accuracy, i), *mean_of(agreement, i), joined[i]))
    return [row for rows in by_arm.values() for row in rows]


def _images(findings: Findings) -> str:
    num = findings.study.protocol.get("robustness_images")
    return f"{num:,}" if isinstance(num, int) and num else "all"


def _worst_note(findings: Findings, key: str) -> list[str]:
    """What the worst of the grid is over, as one of the runs says."""
    grid = read_worst_of_grid(findings.study, key)
    if not {"max_deg", "max_px", "num_points"} <= grid.keys():
        return []
    return [
        "Rotated: mean over the rotations. Worst of grid: share of the images that are right at every one of "
        f"{grid['num_points']:g} points of a grid of rotations up to {grid['max_deg']:g}° and shifts up to "
        f"{grid['max_px']:g} px each way."
    ]
