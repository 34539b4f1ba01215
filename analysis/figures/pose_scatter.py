"""Whether the transformers follow the pose: what they predict of each image over what is true.

Legend: N images; 23 rows and columns of affine maps.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, MultipleLocator

from analysis.evaluations import read_maps
from analysis.figures import style
from analysis.figures.grids import label_below, panel_grid
from analysis.figures.registry import figure
from analysis.figures.selection import MOST_RUNS, arm_label, keys_of_arms, selected
from analysis.figures.thetas import Recovered, recover_angle, recover_scale, recover_shift
from analysis.findings import Findings
from analysis.records import Study
from analysis.statistics import Floats

_MOST_PANELS, _MOST_POINTS = 15, 2000


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
"""The dots of shifts to the right and of all that is not a shift, and those of shifts down."""


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
    study, keys = findings.study, keys_of_arms(findings)
    parts_of_arm = {arm: _parts(_maps(study, keys[arm][:1])) for arm in keys}
    arms = [arm for arm, parts in parts_of_arm.items() if parts]
    if not arms:
        return None
    arms, note = selected(study, arms, _MOST_PANELS // len({part for arm in arms for part in parts_of_arm[arm]}))
    parts = [part for part in _PARTS if any(part in parts_of_arm[arm] for arm in arms)]
    maps = {arm: _maps(study, keys[arm][:MOST_RUNS]) for arm in arms}
    drawn, grid = panel_grid(len(arms) * len(parts), len(parts) if len(parts) > 1 else 3, 1.5, rest_in=1.3)
    for ax, (arm, part) in zip(grid.flat, product(arms, parts), strict=False):
        if part not in parts_of_arm[arm]:
            ax.set_axis_off()
            continue
        _draw(ax, part, [recovered for pair in maps[arm] if (recovered := part.recover(*pair))])
        if part is parts[0]:
            ax.set_title(arm_label(study, arm, 24), fontsize=7.5)
    label_below(grid, *(f"true {part.name}, {part.unit}" for part in parts))
    of_all = "in the units of each column"
    drawn.supylabel(f"predicted, {of_all}" if len(parts) > 1 else f"predicted {parts[0].name}, {parts[0].unit}")
    return style.finished(drawn, study, _legend(parts), "Do the transformers follow the pose?", note, most_columns=4)


def _maps(study: Study, keys: list[str]) -> list[tuple[Floats, Floats]]:
    """What each run predicts and what is true, both (N, 2, 3); without runs of several heads, which have no one map."""
    runs = (maps for key in keys if (maps := read_maps(study, key)) and len(maps.theta_HN23) == 1)
    return [(run.theta_HN23[0].astype(np.float64), run.true_theta_N23.astype(np.float64)) for run in runs]


def _parts(maps: list[tuple[Floats, Floats]]) -> list[_Part]:
    """What differs from image to image at the pose."""
    return [part for part in _PARTS if any(part.recover(true_N23, true_N23) for _, true_N23 in maps)]


def _draw(ax: Axes, part: _Part, runs: list[Recovered]) -> None:
    step = -(-sum(run.true_PN.shape[1] for run in runs) // _MOST_POINTS)
    both = [np.stack([run.true_PN, run.predicted_PN])[:, :, ::step] for run in runs]
    true_PN, predicted_PN = part.factor * np.concatenate(both, axis=2)
    low, high = true_PN.min(), true_PN.max()
    margin = 0.06 * (high - low)
    is_angle = part.recover is recover_angle
    room = (0.5 if is_angle else 0.25) * (high - low)  # what is further off than that is simply wrong
    bottom, top = low - room, high + room
    if is_angle:
        bottom, top = max(bottom, -180.0), min(top, 180.0)
    for true_N, predicted_N, (color, marker) in zip(true_PN, predicted_PN, _DOTS, strict=False):
        inside_N = np.clip(predicted_N, bottom, top)
        ax.plot(true_N, inside_N, marker, color=color, markersize=2, alpha=0.3, markeredgewidth=0, rasterized=True)
    ax.plot([low, high], [low, high], color=style.REFERENCE, linestyle="--", linewidth=0.8)
    for axis, ends in ((ax.xaxis, (low - margin, high + margin)), (ax.yaxis, (bottom, top))):
        if part.recover is recover_scale:
            axis.set_ticks(*style.factor_ticks(*ends))
        elif is_angle:
            step_deg = next((step for step in (90, 45, 30, 15, 10, 5, 2) if ends[1] - ends[0] >= 3 * step), 1)
            axis.set_major_locator(MultipleLocator(step_deg))
        else:
            axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    ax.set_xlim(low - margin, high + margin)
    ax.set_ylim(bottom, top)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    text = _r2_text([run.r2 for run in runs])
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
