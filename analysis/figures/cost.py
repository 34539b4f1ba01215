"""What accuracy costs: test accuracy over the FLOPs of a training and over parameters, with the frontier of both."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.ablation import Row
from analysis.figures import figure
from analysis.figures.placing import Point, place_labels
from analysis.figures.selection import lines, selected_rows
from analysis.figures.style import (
    MUTED,
    WIDTH_IN,
    LineStyle,
    add_legend,
    add_majority,
    add_title,
    clip_accuracies,
    legend_height_in,
    shortened,
    variant_styles,
    wrapped_name,
)
from analysis.findings import Findings
from analysis.statistics import Floats

_MAX_NAMED = 8
"""Variants of a pose whose names stand beside their points; of more, numbers do, and a key says whose."""

_MAX_VARIANTS = 40
_MAX_NAME = 22
_COSTS = (("train_flops", "FLOPs of one training"), ("num_parameters", "parameters"))


@figure(
    "cost",
    "Test accuracy, with the 95 % interval of its mean over seeds, over what it costs: the floating-point operations "
    "of one training (left) and the size of the network (right). Points on the line are worth their cost: nothing "
    "that is cheaper is more accurate. A thin line leads from a name to its point where others are near.",
)
def cost_figure(findings: Findings) -> Figure | None:
    """A row of panels a pose; None where no completed run says what it cost."""
    of_pose, note = selected_rows(findings, _with_costs(findings), _MAX_VARIANTS)
    if not of_pose:
        return None
    variants = list(dict.fromkeys(row.variant for rows in of_pose.values() for row in rows))
    styles = variant_styles(variants)
    named = max(map(len, of_pose.values())) <= _MAX_NAMED
    texts = {v: wrapped_name(v, _MAX_NAME) if named else str(i) for i, v in enumerate(variants, start=1)}
    height_in, legend = 2.3 if named else 3.2, _legend(styles, texts, named=named)
    legend += add_majority([], findings.study)
    fig = Figure(figsize=(WIDTH_IN, 0.8 + height_in * len(of_pose) + legend_height_in(legend)))
    axes = fig.subplots(len(of_pose), len(_COSTS), squeeze=False, sharex="col", sharey="row")
    labelled = []
    for panels, (pose, rows) in zip(axes, of_pose.items(), strict=True):
        for ax, (cost, label) in zip(panels, _COSTS, strict=True):
            cost_R = np.array([float(getattr(row, cost)) for row in rows])
            ax.set_xlabel(label)
            ax.label_outer()
            labelled.append((ax, _draw(ax, rows, cost_R, styles, texts)))
            sns.despine(ax=ax)
        clip_accuracies(panels[0])
        panels[0].set_ylabel("test accuracy, %")
        if len(of_pose) > 1:
            panels[0].set_title(f"pose {shortened(pose)}")
    for column, (cost, _) in enumerate(_COSTS):
        _scale(axes[0, column], [float(getattr(row, cost)) for rows in of_pose.values() for row in rows])
    add_majority(axes.flat, findings.study)
    add_title(fig, findings.study, lines("What accuracy costs", note))
    add_legend(fig, legend)
    fig.draw_without_rendering()
    for ax, (points, line) in labelled:
        place_labels(ax, points, line)
    return fig


def _with_costs(findings: Findings) -> list[int]:
    """The arms that have a completed final run whose costs are known."""
    costs = [cost for cost, _ in _COSTS]
    return findings.completed.dropna(subset=["test_accuracy", *costs])["arm"].unique().tolist()


def frontier(cost_R: Floats, accuracy_R: Floats) -> list[int]:
    """Indices of those that are more accurate than all that cost as little or less, from cheap to dear."""
    order = sorted(range(len(cost_R)), key=lambda i: (cost_R[i], -accuracy_R[i]))
    best, found = -np.inf, []
    for i in order:
        if accuracy_R[i] > best:
            best = accuracy_R[i]
            found.append(i)
    return found


def _draw(
    ax: Axes, rows: Sequence[Row], cost_R: Floats, styles: dict[str, LineStyle], texts: dict[str, str]
) -> tuple[list[Point], Line2D]:
    """The points to be labelled, and the frontier."""
    accuracy_R = np.array([100 * row.test_accuracy.value for row in rows])
    half_R = 100 * np.nan_to_num([row.test_accuracy.half_width for row in rows])
    on = frontier(cost_R, accuracy_R)
    ends = np.append(cost_R[on], cost_R.max()), np.append(accuracy_R[on], accuracy_R.max())
    (line,) = ax.step(*ends, where="post", color=MUTED, linewidth=1, zorder=1)
    points = []
    for i, row in enumerate(rows):
        style, bar = styles[row.variant], accuracy_R[i] + half_R[i] * np.array([-1, 1])
        # Ends show whose a bar is where variants cost the same, such as those that differ in their policy only.
        ax.plot([cost_R[i]] * 2, bar, "_-", color=style.color, linewidth=1, markersize=5, zorder=2)
        ax.plot(
            cost_R[i], accuracy_R[i], style.marker, color=style.color, markersize=5, zorder=3,
            markerfacecolor=style.color if i in on else "white",
        )  # fmt: skip
        points.append(Point(cost_R[i], accuracy_R[i], half_R[i], texts[row.variant]))
    return points, line


def _scale(ax: Axes, costs: Sequence[float]) -> None:
    low, high = min(costs), max(costs)
    if high >= 10 * low > 0:
        ax.set_xscale("log")
        ax.margins(x=0.15)
        if high < 100 * low:
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        ax.margins(x=0.25)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    ax.xaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _legend(styles: dict[str, LineStyle], texts: dict[str, str], *, named: bool) -> list[Artist]:
    handles: list[Artist] = []
    for variant, style in styles.items() if not named else ():
        label = f"{texts[variant]}  {wrapped_name(variant, 30)}"
        handles.append(Line2D([], [], linestyle="", marker=style.marker, color=style.color, markersize=5, label=label))
    handles.append(Line2D([], [], color=MUTED, linewidth=1, label="frontier"))
    for label, fill in (("on the frontier", MUTED), ("beaten at the same cost or less", "white")):
        handles.append(
            Line2D([], [], linestyle="", marker="o", color=MUTED, markersize=5, markerfacecolor=fill, label=label)
        )
    return handles
