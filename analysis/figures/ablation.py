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
from analysis.figures import figure
from analysis.figures.selection import lines, selected_rows
from analysis.figures.style import (
    MAIN,
    REFERENCE,
    SEED,
    WIDTH_IN,
    add_legend,
    add_majority,
    add_note,
    add_title,
    clip_accuracies,
    shortened,
    wrapped_name,
)
from analysis.findings import Findings

_MAX_ROWS = 60
_MAX_NAME = 26
"""Characters to a line of a variant's name, at either side of the panels."""


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
    of_pose, note = selected_rows(findings, range(len(findings.study.arms)), _MAX_ROWS)
    edges = {pose: np.cumsum([0.0, *map(_num_lines, rows)]) for pose, rows in of_pose.items()}
    heights = [float(edges_R[-1]) for edges_R in edges.values()]
    fig = Figure(figsize=(WIDTH_IN, 1.3 + 0.22 * sum(heights) + 0.3 * len(heights)))
    axes = fig.subplots(len(heights), 2, squeeze=False, sharex="col", gridspec_kw={"height_ratios": heights})
    for (pose, rows), (left, right) in zip(of_pose.items(), axes, strict=True):
        middles = ((edges[pose][:-1] + edges[pose][1:]) / 2).tolist()
        left.set_yticks(middles, _draw_accuracies(left, rows, middles))
        right.set_yticks(middles, _draw_differences(right, rows, middles))
        right.yaxis.tick_right()
        for ax in (left, right):
            ax.set_ylim(edges[pose][-1], 0)
            ax.tick_params(left=False, right=False)
            ax.grid(visible=False, axis="y")
            ax.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
            sns.despine(ax=ax, left=True)
        if len(of_pose) > 1:
            left.set_title(f"pose {shortened(pose)}")
    clip_accuracies(axes[-1, 0], "x")
    low, high = axes[-1, 1].get_xlim()
    axes[-1, 1].set_xlim(max(low, -100), min(high, 100))
    axes[-1, 0].set_xlabel("test accuracy, %")
    axes[-1, 1].set_xlabel("difference to the baseline, percentage points")
    add_title(fig, findings.study, lines("Test accuracy, and what it is above the baseline's", note))
    majority = add_majority(axes[:, 0], findings.study, "x")
    add_legend(fig, [*_legend(has_forest=bool(findings.study.claims.family)), *majority])
    return fig


def _num_lines(row: Row) -> float:
    """That its labels take, with the space between rows."""
    return 1 + 0.65 * max(wrapped_name(name, _MAX_NAME).count("\n") for name in (row.variant, row.baseline))


def _draw_accuracies(ax: Axes, rows: Sequence[Row], middles: Sequence[float]) -> list[str]:
    """Draws a row at each y; returns their labels."""
    for y, row in zip(middles, rows, strict=True):
        _draw_estimate(ax, y, row.test_by_seed.values(), row.test_accuracy.value, row.test_accuracy.half_width)
        if not row.test_accuracy.num:
            add_note(ax, "no completed final run", y)
    return [f"{wrapped_name(row.variant, _MAX_NAME)}{_completed_text(row)}" for row in rows]


def _draw_differences(ax: Axes, rows: Sequence[Row], middles: Sequence[float]) -> list[str]:
    """Draws a row at each y; returns their labels."""
    ax.axvline(0, color=REFERENCE, linewidth=1)
    for y, row in zip(middles, rows, strict=True):
        if row.difference is None:
            add_note(ax, "its own baseline", y)
        elif not row.difference.num:
            add_note(ax, "no pair of completed runs", y)
        else:
            mean = row.difference
            filled = row.is_ripe and mean.half_width < abs(mean.value)  # of a single seed nothing is known
            _draw_estimate(ax, y, row.difference_by_seed.values(), mean.value, mean.half_width, filled=filled)
    return ["" if row.difference is None else f"vs {wrapped_name(row.baseline, _MAX_NAME)}" for row in rows]


def _draw_estimate(
    ax: Axes, y: float, scores: Iterable[float], mean: float, half_width: float, *, filled: bool = True
) -> None:
    """The mean with its interval, and seeds as small dots just under it, so that neither hides the other."""
    scores = [100 * score for score in scores]
    whole: dict[str, Any] = {"clip_on": False, "in_layout": False}  # a dot at 100 % is at the axis's end
    ax.plot(scores, np.full(len(scores), y + 0.3), "o", color=SEED, markersize=2.6, markeredgewidth=0, **whole)
    if not scores:
        return
    if not np.isnan(half_width):
        ax.plot([100 * (mean - half_width), 100 * (mean + half_width)], [y] * 2, color=MAIN, linewidth=1.8)
    ax.plot([100 * mean], [y], "o", color=MAIN, markersize=5, markerfacecolor=MAIN if filled else "white", **whole)


def _completed_text(row: Row) -> str:
    num_finals = len(row.finals)
    return "" if row.test_accuracy.num == num_finals else f"  ({row.test_accuracy.num} of {num_finals})"


def _legend(*, has_forest: bool) -> list[Line2D]:
    open_label = "the same where this one interval, uncorrected,\ncontains 0, or training was too short"
    if has_forest:
        open_label += "; decisions: see forest"
    return [
        Line2D([], [], linestyle="", marker="o", color=SEED, markersize=2.6, label="one seed"),
        Line2D([], [], marker="o", color=MAIN, linewidth=1.8, markersize=5, label="mean, 95 % interval over seeds"),
        Line2D(
            [],
            [],
            marker="o",
            color=MAIN,
            markerfacecolor="white",
            linewidth=1.8,
            markersize=5,
            label=open_label,
        ),
    ]
