"""How well variants stand images that are turned, scaled and shifted after training."""

from analysis.evaluations import read_worst_of_grid
from analysis.findings import Findings
from analysis.scores import SHOWN
from analysis.tables.building import table
from analysis.tables.columns import Draft
from analysis.tables.ranking import ranking_note
from analysis.tables.score_grid import Grid, Measured, points_draft

_KINDS = {
    "rotation": ("rotation, degrees anticlockwise", "°"),
    "scale": ("scale, a factor", "×"),
    "shift_x": ("shift to the right, pixels", " px"),
    "shift_y": ("shift downwards, pixels", " px"),
}
_SUMMARY = ("rotation_accuracy", "worst_of_grid_accuracy")


@table("invariance", "Invariance")
def invariance(findings: Findings) -> Draft[Measured] | None:
    """Accuracy and agreement by kind of transformation at each pose; None where no run was measured so."""
    study, scores = findings.study, findings.scores
    points = findings.robustness
    points = points[points["kind"].isin(list(_KINDS)) & points["key"].isin(scores.finals["key"])]
    if points.empty:
        return None
    grids = [Grid("summary", {score.heading: scores.array(score.name) for score in SHOWN if score.name in _SUMMARY})]
    for kind, (over, _) in _KINDS.items():
        by_value = list(points[points["kind"] == kind].groupby("value"))
        for what in ("accuracy", "agreement"):
            score_of = {_heading(kind, value): scores.spread(at, at[what]) for value, at in by_value}
            # A network that always says the same agrees with itself: more is not better
            grids.append(Grid(f"{what} % over {over}", score_of, ranking=what == "accuracy"))
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        f"Numbers are means in per cent over the n completed final runs that were measured, on {_images(findings)} "
        "test images; intervals are in the CSV file. Agreement: share of the images that are given the same class as "
        "untransformed, right or wrong; more of it is not always better.",
        *_worst_note(findings, str(points["key"].iloc[0])),
    )
    names = {"kind": "kind", "value": "value"}
    return points_draft(scores, points, grids, notes, names, ["accuracy", "agreement"])


def _heading(kind: str, value: object) -> str:
    text = f"{value:g}".replace("-", "−")
    unit = _KINDS[kind][1]
    return f"{unit}{text}" if unit == "×" else f"{text}{unit}"


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
