"""What the variants reach, and what they gain on their baselines."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.ablation import Row
from analysis.figures import style
from analysis.figures.grids import pose_panels
from analysis.figures.registry import figure
from analysis.figures.selection import selected_rows
from analysis.findings import Findings

_MAX_NAME = 26
"""Characters to a line of a variant's name, at either side of the panels."""

_MEAN: dict[str, Any] = {"color": style.MAIN, "marker": "o", "markersize": 5, "linewidth": 1.8}


@figure(
    "ablation",
    "Left: the test accuracy of each variant. Right: what it gains on the variant named at the right, seed by seed. "
    "Small dots are single seeds, large ones their mean with its 95 % interval. A filled dot at the right only means "
    "that this one interval excludes 0, uncorrected for how many there are, and that both were trained long enough "
    "for a longer training not to turn it; what the study decides stands in the "
    "figure of differences (forest).",
)
def ablation_figure(findings: Findings) -> Figure:
    """Left: test accuracy by variant. Right: the paired differences to the baselines. A row of panels a pose."""
    of_pose, note = selected_rows(findings, range(len(findings.study.arms)), most=60)
    heights = {pose: map(_num_lines, rows) for pose, rows in of_pose.items()}
    drawn, grid, ends = pose_panels(heights, 0.22, rest_in=1.3, columns=2)
    for rows, (left, right), ends_y in zip(of_pose.values(), grid, ends, strict=True):
        middles = ((np.array(ends_y[:-1]) + ends_y[1:]) / 2).tolist()
        left.set_yticks(middles, _draw_accuracies(left, rows, middles))
        right.set_yticks(middles, _draw_differences(right, rows, middles))
        right.yaxis.tick_right()
        for ax in (left, right):
            ax.tick_params(left=False, right=False)
            ax.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
            sns.despine(ax=ax, left=True)
    style.clip(grid[-1, 0], "x")
    style.clip(grid[-1, 1], "x", -100, 100)
    grid[-1, 0].set_xlabel("test accuracy, %")
    grid[-1, 1].set_xlabel("difference to the baseline, percentage points")
    chance = style.add_chance(grid[:, 0], findings.study, "x")
    legend = [*_legend(has_forest=bool(findings.study.claims.family)), *chance]
    return style.finished(drawn, findings.study, legend, "Test accuracy, and what it is above the baseline's", note)


def _num_lines(row: Row) -> float:
    """Lines of text that a row takes: its labels, and the space to the next row."""
    return 1 + 0.65 * max(style.wrapped_name(name, _MAX_NAME).count("\n") for name in (row.variant, row.baseline))


def _draw_accuracies(ax: Axes, rows: Sequence[Row], middles: Sequence[float]) -> list[str]:
    """Draws a row at each y; returns their labels."""
    labels = []
    for y, row in zip(middles, rows, strict=True):
        mean, num_finals = row.test_accuracy, len(row.finals)
        _draw_estimate(ax, y, row.test_by_seed.values(), mean.value, mean.half_width)
        if not mean.num:
            style.add_note(ax, "no completed final run", y)
        completed = "" if mean.num == num_finals else f"  ({mean.num} of {num_finals})"
        labels.append(style.wrapped_name(row.variant, _MAX_NAME) + completed)
    return labels


def _draw_differences(ax: Axes, rows: Sequence[Row], middles: Sequence[float]) -> list[str]:
    """Draws a row at each y; returns their labels."""
    ax.axvline(0, color=style.REFERENCE, linewidth=1)
    for y, row in zip(middles, rows, strict=True):
        if row.difference is None:
            style.add_note(ax, "its own baseline", y)
        elif not row.difference.num:
            style.add_note(ax, "no pair of completed runs", y)
        else:
            mean = row.difference
            filled = row.is_ripe and mean.half_width < abs(mean.value)  # of a single seed nothing is known
            _draw_estimate(ax, y, row.difference_by_seed.values(), mean.value, mean.half_width, filled=filled)
    return ["" if row.difference is None else f"vs {style.wrapped_name(row.baseline, _MAX_NAME)}" for row in rows]


def _draw_estimate(
    ax: Axes, y: float, scores: Iterable[float], mean: float, half_width: float, *, filled: bool = True
) -> None:
    """The mean with its interval, and seeds as small dots just under it, so that neither hides the other."""
    scores = [100 * score for score in scores]
    whole: dict[str, Any] = {"clip_on": False, "in_layout": False}  # a dot at 100 % is at the axis's end
    ax.plot(scores, np.full(len(scores), y + 0.3), "o", color=style.SEED, markersize=2.6, markeredgewidth=0, **whole)
    if not scores:
        return
    if not np.isnan(half_width):
        ax.plot([100 * (mean - half_width), 100 * (mean + half_width)], [y] * 2, **_MEAN | {"marker": ""})
    ax.plot([100 * mean], [y], markerfacecolor=style.MAIN if filled else "white", **_MEAN | {"linestyle": ""}, **whole)


def _legend(*, has_forest: bool) -> list[Line2D]:
    open_label = "the same where this one interval, uncorrected,\ncontains 0, or training was too short"
    if has_forest:
        open_label += "; decisions: see forest"
    return [
        Line2D([], [], linestyle="", marker="o", color=style.SEED, markersize=2.6, label="one seed"),
        Line2D([], [], label="mean, 95 % interval over seeds", **_MEAN),
        Line2D([], [], label=open_label, markerfacecolor="white", **_MEAN),
    ]
