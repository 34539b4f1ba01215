"""What the variants reach, and what they gain on their baselines."""

from collections.abc import Iterable, Sequence

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
    add_note,
    add_title,
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
    "Small dots are single seeds, large ones their mean with its 95 % interval; a difference whose dot is filled is "
    "probably not an accident of the seeds.",
)
def ablation_figure(findings: Findings) -> Figure:
    """Left: test accuracy by variant. Right: the paired differences to the baselines. A row of panels a pose."""
    of_pose, note = selected_rows(findings, range(len(findings.study.arms)), _MAX_ROWS)
    edges = {pose: np.cumsum([0.0, *map(_num_lines, rows)]) for pose, rows in of_pose.items()}
    heights = [float(edges_R[-1]) for edges_R in edges.values()]
    fig = Figure(figsize=(WIDTH_IN, 1.1 + 0.22 * sum(heights) + 0.3 * len(heights)))
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
    axes[-1, 0].set_xlabel("test accuracy, %")
    axes[-1, 1].set_xlabel("difference to the baseline, percentage points")
    add_title(fig, findings.study, lines("Test accuracy, and what it is above the baseline's", note))
    add_legend(fig, _legend())
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
            filled = mean.half_width < abs(mean.value)  # of a single seed nothing is known
            _draw_estimate(ax, y, row.difference_by_seed.values(), mean.value, mean.half_width, filled=filled)
    return ["" if row.difference is None else f"vs {wrapped_name(row.baseline, _MAX_NAME)}" for row in rows]


def _draw_estimate(
    ax: Axes, y: float, scores: Iterable[float], mean: float, half_width: float, *, filled: bool = True
) -> None:
    """Seeds as small dots just under the mean with its interval, so that neither hides the other."""
    scores = [100 * score for score in scores]
    ax.plot(scores, np.full(len(scores), y + 0.22), "o", color=SEED, markersize=2.6, markeredgewidth=0)
    if not scores:
        return
    if not np.isnan(half_width):
        ax.plot([100 * (mean - half_width), 100 * (mean + half_width)], [y - 0.08] * 2, color=MAIN, linewidth=1.8)
    ax.plot([100 * mean], [y - 0.08], "o", color=MAIN, markersize=5, markerfacecolor=MAIN if filled else "white")


def _completed_text(row: Row) -> str:
    num_finals = len(row.finals)
    return "" if row.test_accuracy.num == num_finals else f"  ({row.test_accuracy.num} of {num_finals})"


def _legend() -> list[Line2D]:
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
            label="interval contains 0, or there is none",
        ),
    ]
