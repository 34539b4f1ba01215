"""How far the variants hold when test images are turned, scaled, shifted and corrupted."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.panels import BANDS, MAX_LINES, Column, line_over, lines_figure
from analysis.figures.registry import figure
from analysis.figures.selection import selected
from analysis.findings import Findings

_LABELS = {
    "rotation": "test images turned by",
    "scale": "scaled by the factor",
    "shift_x": "shifted to the right, px",
    "shift_y": "shifted down, px",
    "geometric": "severity of geometric corruptions",
    "photometric": "severity of photometric corruptions",
}
"""What runs along the bottom of a column of panels, by the kind of rows of Findings.robustness."""


def _figure(findings: Findings, title: str, kinds: Sequence[str], score: str) -> Figure | None:
    """A column of panels for each of the kinds that runs were tested on; None where they were tested on none."""
    rows = with_severity_0(findings.robustness).dropna(subset=[score])
    of_kind = {kind: rows[rows["kind"] == kind] for kind in kinds if (rows["kind"] == kind).any()}
    if not of_kind:
        return None
    tested = {arm for of_arms in of_kind.values() for arm in of_arms["arm"]}
    arms, note = selected(findings.study, tested, MAX_LINES if len(of_kind) == 1 else MAX_LINES // 2)
    columns = [_column(findings, kind, of_arms, arms, score) for kind, of_arms in of_kind.items()]
    return lines_figure(findings.study, columns, title, note, score=f"test {score}", nothing="not tested")


def with_severity_0(robustness: pd.DataFrame) -> pd.DataFrame:
    """The rows, and images as they are, from the rotation by 0, as severity 0 of both kinds of corruptions."""
    plain = robustness[(robustness["kind"] == "rotation") & (robustness["value"] == 0)]
    corrupted = robustness.groupby("key")["kind"].agg(set)
    added = [
        plain[plain["key"].map(lambda key, kind=kind: kind in corrupted[key])].assign(kind=kind, name="none")
        for kind in ("geometric", "photometric")
    ]
    return pd.concat([robustness, *added], ignore_index=True)


def _column(findings: Findings, kind: str, rows: pd.DataFrame, arms: Sequence[int], score: str) -> Column:
    """The lines of these arms over the values of a kind. rows: of Findings.robustness, of that kind."""
    lines = []
    for i in arms:
        arm, of_arm = findings.study.arms[i], rows[rows["arm"] == i]
        scores = of_arm.pivot_table(index="value", columns="seed", values=score, aggfunc="mean")
        x_X = scores.index.to_numpy(np.float64)
        lines.append(line_over(arm.pose, arm.variant, x_X, scores.to_numpy(np.float64)))
    present = np.unique(rows["value"])
    if kind == "rotation":
        return Column(_LABELS[kind], lines, *_angle_ticks(present))
    if kind == "scale":
        ends_and_one = sorted({present[0], present[-1], *present[present == 1]})
        return Column(_LABELS[kind], lines, ends_and_one, [f"{value:.3g}" for value in ends_and_one], scale="log")
    return Column(_LABELS[kind], lines)


def _angle_ticks(present: np.ndarray) -> tuple[list[float], list[str]]:
    """The largest steps of a turn's usual parts that give at least four intervals."""
    low, high = present[0], present[-1]
    step = next((step for step in (90, 45, 30, 15, 10, 5) if (high - low) / step >= 4), 5)
    ticks = [float(tick) for tick in range(-360, 361, step) if low <= tick <= high]
    return ticks, [f"{tick:g}".replace("-", "−") + "°" for tick in ticks]


for _name, _score, _title, _kinds, _caption in (
    (
        "rotation", "accuracy", "Accuracy over angle", ["rotation"],
        "Test accuracy when all test images are turned by an angle that training may never have shown. A line that "
        "stays level is invariant to rotation; one that peaks at 0 knows upright images only.",
    ),
    (
        "rotation_agreement", "agreement", "Agreement with the upright prediction over angle", ["rotation"],
        "The share of test images that are given the same class when turned as when upright, right or wrong: 100 % is "
        "a network that rotation cannot change.",
    ),
    (
        "scale_shift", "accuracy", "Accuracy over scale and shift", ["scale", "shift_x", "shift_y"],
        "Test accuracy when all test images are enlarged or shrunk (left), or shifted to the side (middle) or down "
        "(right). A line that stays level is not disturbed by it.",
    ),
    (
        "severity", "accuracy", "Accuracy over the severity of corruptions", ["geometric", "photometric"],
        "Test accuracy over the severity of corruptions, averaged over all corruptions of a kind: geometric ones move "
        "pixels, photometric ones change their values. Severity 0 is the same images as they are.",
    ),
):  # fmt: skip
    figure(_name, f"{_caption} {BANDS}")(partial(_figure, title=_title, kinds=_kinds, score=_score))
