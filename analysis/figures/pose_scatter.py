"""Whether the transformers follow the pose: what they predict of each image over what is true.

Legend: N images; 23 rows and columns of affine maps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, MultipleLocator

from analysis.evaluations import Maps, read_maps
from analysis.figures import figure, style
from analysis.figures.selection import arm_label, grid_shape, keys_of_arms, lines, selected
from analysis.figures.thetas import Recovered, recover_angle, recover_scale, recover_shift
from analysis.findings import Findings
from analysis.records import Study
from analysis.statistics import Floats

_MOST_PANELS, _MOST_RUNS, _MOST_POINTS = 15, 10, 2000
_COLUMNS = 3
_LABEL = 24
_STEPS_DEG = (90, 45, 30, 15, 10, 5, 2)


class _Part(NamedTuple):
    """A part of the pose. factor: from what recover returns to what the axes show; of a scale, its log2."""

    name: str
    unit: str
    recover: Callable[[Floats, Floats], Recovered | None]
    factor: float


_PARTS = (
    _Part("angle", "degrees clockwise", recover_angle, 1.0),
    _Part("scale", "factor", recover_scale, 1 / np.log(2)),
    _Part("shift", "% of the width", recover_shift, 100.0),
)


_DOTS = ((style.COLORS[0], "o"), (style.COLORS[1], "^"))
"""Of what is not a shift or goes to the right, and of what goes down."""


class _Panel(NamedTuple):
    """An arm and a part of the pose, as each of its runs recovers it."""

    arm: int
    part: _Part
    runs: list[Recovered]


@figure(
    "pose_scatter",
    "What each variant's transformer predicts of an image's pose over the truth, a dot an image: on the dashed line it "
    "undoes the pose exactly, on a level line it does the same to every image. R² is the share of the variation "
    "that it explains, with its range over runs: 1 is all, 0 none. Dots at the upper or lower edge lie beyond it.",
)
def pose_scatter(findings: Findings) -> Figure | None:
    """A panel a variant and part of the pose that differs from image to image; None where the pose is always the same.

    Which constant turn, size or place counts as upright is not known to anybody; the best one is taken, for each run.
    """
    study = findings.study
    keys_of_arm = keys_of_arms(findings.completed)
    parts_of_arm = {arm: _parts(study, keys) for arm, keys in keys_of_arm.items()}
    arms = [arm for arm, parts in parts_of_arm.items() if parts]
    if not arms:
        return None
    parts = [part for part in _PARTS if any(part in parts_of_arm[arm] for arm in arms)]
    arms, note = selected(study, arms, _MOST_PANELS // len(parts))
    parts = [part for part in parts if any(part in parts_of_arm[arm] for arm in arms)]
    panels = [panel for arm in arms for panel in _panels(study, arm, keys_of_arm[arm], parts_of_arm[arm])]
    by_part = len(parts) > 1
    rows, columns = (len(arms), len(parts)) if by_part else grid_shape(len(panels), _COLUMNS)
    drawn = Figure(figsize=(style.WIDTH_IN, 1.3 + 1.5 * rows))
    axes = drawn.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, panel in enumerate(panels):
        row, column = (arms.index(panel.arm), parts.index(panel.part)) if by_part else divmod(i, columns)
        axes[row, column].set_axis_on()
        _draw(axes[row, column], panel)
        if not by_part or column == 0:
            axes[row, column].set_title(arm_label(study, panel.arm, _LABEL), fontsize=7.5)
    for column in range(columns):
        part = parts[column if by_part else 0]
        lowest = max(i for i in range(rows) if axes[i, column].axison)
        axes[lowest, column].set_xlabel(f"true {part.name}, {part.unit}")
    drawn.supylabel(
        "predicted, in the units of each column" if by_part else f"predicted {parts[0].name}, {parts[0].unit}"
    )
    style.add_title(drawn, study, lines("Do the transformers follow the pose?", note))
    style.add_legend(drawn, _legend(parts), 4)
    return drawn


def _single_head(study: Study, key: str) -> Maps | None:
    """Several heads recover no single pose."""
    maps = read_maps(study, key)
    return maps if maps and len(maps.theta_HN23) == 1 else None


def _parts(study: Study, keys: list[str]) -> list[_Part]:
    """What differs from image to image at the arm's pose, by its first run."""
    maps = _single_head(study, keys[0])
    if maps is None:
        return []
    true_N23 = maps.true_theta_N23.astype(np.float64)
    return [part for part in _PARTS if part.recover(true_N23, true_N23)]


def _panels(study: Study, arm: int, keys: list[str], parts: list[_Part]) -> list[_Panel]:
    found = [maps for key in keys[:_MOST_RUNS] if (maps := _single_head(study, key))]
    arrays = [(maps.theta_HN23[0].astype(np.float64), maps.true_theta_N23.astype(np.float64)) for maps in found]
    return [
        _Panel(arm, part, [recovered for theta, true in arrays if (recovered := part.recover(theta, true))])
        for part in parts
    ]


def _draw(ax: Axes, panel: _Panel) -> None:
    factor = panel.part.factor
    step = -(-sum(run.true_PN.shape[1] for run in panel.runs) // _MOST_POINTS)
    true_PN = factor * np.concatenate([run.true_PN[:, ::step] for run in panel.runs], axis=1)
    predicted_PN = factor * np.concatenate([run.predicted_PN[:, ::step] for run in panel.runs], axis=1)
    low, high = np.quantile(true_PN, (0, 1))
    margin = 0.06 * (high - low)
    is_angle = panel.part.recover is recover_angle
    room = (0.5 if is_angle else 0.25) * (high - low)  # what is further off than that is simply wrong
    bottom, top = low - room, high + room
    if is_angle:
        bottom, top = max(bottom, -180.0), min(top, 180.0)
    for true_N, predicted_N, (color, marker) in zip(true_PN, predicted_PN, _DOTS, strict=False):
        inside_N = np.clip(predicted_N, bottom, top)
        ax.plot(true_N, inside_N, marker, color=color, markersize=2, alpha=0.3, markeredgewidth=0, rasterized=True)
    ax.plot([low, high], [low, high], color=style.REFERENCE, linestyle="--", linewidth=0.8)
    for axis, ends in ((ax.xaxis, (low - margin, high + margin)), (ax.yaxis, (bottom, top))):
        if panel.part.recover is recover_scale:
            axis.set_ticks(*style.factor_ticks(*ends))
        elif is_angle:
            step_deg = next((step for step in _STEPS_DEG if ends[1] - ends[0] >= 3 * step), 1)
            axis.set_major_locator(MultipleLocator(step_deg))
        else:
            axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    ax.set_xlim(low - margin, high + margin)
    ax.set_ylim(bottom, top)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    text = _r2_text([run.r2 for run in panel.runs])
    ax.text(0.97, 0.04, text, transform=ax.transAxes, ha="right", fontsize=7, bbox=box)


def _r2_text(r2s: list[float]) -> str:
    """The mean over runs and their range; a transformer that is lost can be worse than a constant by any factor."""
    mean, low, high = (f"{value + 0.0:.2f}".replace("-0.00", "0.00") for value in (np.mean(r2s), min(r2s), max(r2s)))
    if min(r2s) < -9:
        return "R² far below 0"
    return f"R² {mean}{'' if low == high else f' ({low} to {high})'}".replace("-", "−")


def _legend(parts: list[_Part]) -> list[Line2D]:
    across, down = (dict[str, Any](color=color, marker=marker, linestyle="", markersize=4) for color, marker in _DOTS)
    handles = [Line2D([], [], color=style.REFERENCE, linestyle="--", linewidth=0.8, label="undoes the pose")]
    if len(parts) > 1 or parts[0].recover is not recover_shift:
        handles.append(Line2D([], [], **across, label="an image" if len(parts) == 1 else "angle or scale"))
    if any(part.recover is recover_shift for part in parts):
        handles.append(Line2D([], [], **across, label="shift to the right"))
        handles.append(Line2D([], [], **down, label="shift down"))
    return handles
