"""How far the variants hold when test images are turned, scaled, shifted and corrupted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import figure
from analysis.figures.panels import BANDS, MAX_LINES, Axis, Line, line_over, panels_figure
from analysis.figures.selection import lines as text_lines
from analysis.figures.selection import selected
from analysis.findings import Findings


class _Quantity(NamedTuple):
    """What is drawn in a column of panels. kind: of the rows of Findings.robustness; label: along the bottom."""

    kind: str
    label: str


@figure(
    "rotation",
    f"Test accuracy when all test images are turned by an angle that training may never have shown. A line that stays "
    f"level is invariant to rotation; one that peaks at 0 knows upright images only. {BANDS}",
)
def rotation_figure(findings: Findings) -> Figure | None:
    """Accuracy over the angle, anticlockwise; None where no run was tested on turned images."""
    return _figure(findings, [_Quantity("rotation", "test images turned by")], "accuracy", "Accuracy over angle")


@figure(
    "rotation_agreement",
    f"The share of test images that are given the same class when turned as when upright, right or wrong: 100 % is a "
    f"network that rotation cannot change. {BANDS}",
)
def agreement_figure(findings: Findings) -> Figure | None:
    """Agreement with the upright prediction over the angle; None where no run was tested on turned images."""
    return _figure(
        findings, [_Quantity("rotation", "test images turned by")], "agreement",
        "Agreement with the upright prediction over angle",
    )  # fmt: skip


@figure(
    "scale_shift",
    f"Test accuracy when all test images are enlarged or shrunk (left), or shifted to the side (middle) or down "
    f"(right). A line that stays level is not disturbed by it. {BANDS}",
)
def scale_shift_figure(findings: Findings) -> Figure | None:
    """Accuracy over scale and both shifts; None where no run was tested on such images."""
    quantities = [
        _Quantity("scale", "scaled by the factor"),
        _Quantity("shift_x", "shifted to the right, px"),
        _Quantity("shift_y", "shifted down, px"),
    ]
    return _figure(findings, quantities, "accuracy", "Accuracy over scale and shift")


@figure(
    "severity",
    f"Test accuracy over the severity of corruptions, averaged over all corruptions of a kind: geometric ones move "
    f"pixels, photometric ones change their values. Severity 0 is the same images as they are. {BANDS}",
)
def severity_figure(findings: Findings) -> Figure | None:
    """Mean accuracy over corruptions by severity; None where no run was tested on corrupted images."""
    quantities = [
        _Quantity("geometric", "severity of geometric corruptions"),
        _Quantity("photometric", "severity of photometric corruptions"),
    ]
    return _figure(findings, quantities, "accuracy", "Accuracy over the severity of corruptions")


def _figure(findings: Findings, quantities: Sequence[_Quantity], score: str, title: str) -> Figure | None:
    found = with_severity_0(findings.robustness).dropna(subset=[score])
    quantities = [quantity for quantity in quantities if (found["kind"] == quantity.kind).any()]
    found = found[found["kind"].isin([quantity.kind for quantity in quantities])]
    if found.empty:
        return None
    most = MAX_LINES if len(quantities) == 1 else MAX_LINES // 2
    arms, note = selected(findings.study, found["arm"].unique(), most)
    lines = [[_line(findings, found, arm, quantity.kind, score) for arm in arms] for quantity in quantities]
    axes = [_axis(quantity, found.loc[found["kind"] == quantity.kind, "value"]) for quantity in quantities]
    return panels_figure(
        findings.study, lines, axes, title=text_lines(title, note), score=f"test {score}", nothing="not tested"
    )


def with_severity_0(robustness: pd.DataFrame) -> pd.DataFrame:
    """The same with images as they are as severity 0 of both kinds of corruptions, from the rotation by 0."""
    plain = robustness[(robustness["kind"] == "rotation") & (robustness["value"] == 0)]
    corrupted = robustness.groupby("key")["kind"].agg(set)
    added = [
        plain[plain["key"].map(lambda key, kind=kind: kind in corrupted[key])].assign(kind=kind, name="none")
        for kind in ("geometric", "photometric")
    ]
    return pd.concat([robustness, *added], ignore_index=True)


def _line(findings: Findings, found: pd.DataFrame, arm: int, kind: str, score: str) -> Line:
    rows = found[(found["arm"] == arm) & (found["kind"] == kind)]
    scores = rows.pivot_table(index="value", columns="seed", values=score, aggfunc="mean")
    pose, variant = findings.study.arms[arm].pose, findings.study.arms[arm].variant
    return line_over(pose, variant, scores.index.to_numpy(np.float64), scores.to_numpy(np.float64))


def _axis(quantity: _Quantity, values: pd.Series) -> Axis:
    present = np.unique(values)
    if quantity.kind == "rotation":
        return Axis(quantity.label, *_angle_ticks(present))
    if quantity.kind == "scale":
        ends_and_one = sorted({present[0], present[-1], *present[present == 1]})
        return Axis(quantity.label, ends_and_one, [f"{value:.3g}" for value in ends_and_one], scale="log")
    return Axis(quantity.label)


def _angle_ticks(present: np.ndarray) -> tuple[list[float], list[str]]:
    """The largest steps of a turn's usual parts that give at least four intervals."""
    low, high = present[0], present[-1]
    step = next((step for step in (90, 45, 30, 15, 10, 5) if (high - low) / step >= 4), 5)
    ticks = [float(tick) for tick in range(-360, 361, step) if low <= tick <= high]
    return ticks, [f"{tick:g}".replace("-", "−") + "°" for tick in ticks]
