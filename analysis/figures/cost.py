"""What accuracy costs: test accuracy over the FLOPs of a training and over parameters, with the frontier of both."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.ablation import Row
from analysis.figures import style
from analysis.figures.grids import panel_grid
from analysis.figures.placing import Point, place_labels
from analysis.figures.registry import figure
from analysis.figures.selection import selected_rows
from analysis.findings import Findings
from analysis.statistics import Floats

_MAX_NAMED = 8
"""Variants of a pose whose names stand beside their points; of more, numbers do, and a key says whose."""

_COSTS = {"train_flops": "FLOPs of one training", "num_parameters": "parameters"}


@figure(
    "cost",
    "Test accuracy, with the 95 % interval of its mean over seeds, over what it costs: the floating-point operations "
    "of one training (left) and the size of the network (right). Points on the line are worth their cost: nothing "
    "that is cheaper is more accurate. A thin line leads from a name to its point where others are near.",
)
def cost_figure(findings: Findings) -> Figure | None:
    """A row of panels a pose; None where no completed run says what it cost."""
    costly = findings.completed.dropna(subset=["test_accuracy", *_COSTS])
    of_pose, note = selected_rows(findings, costly["arm"].unique().tolist(), most=40)
    if not of_pose:
        return None
    variants = list(dict.fromkeys(row.variant for rows in of_pose.values() for row in rows))
    styles = style.variant_styles(variants)
    named = max(map(len, of_pose.values())) <= _MAX_NAMED
    texts = {v: style.wrapped_name(v, 22) if named else str(i) for i, v in enumerate(variants, start=1)}
    legend = [*_legend(styles, texts, named=named), *style.add_chance([], findings.study)]
    drawn, grid = panel_grid(
        2 * len(of_pose), 2, 2.3 if named else 3.2, rest_in=0.8, legend_in=style.legend_height_in(legend),
        sharex="col", sharey="row",
    )  # fmt: skip
    labelled = []
    for panels, (pose, rows) in zip(grid, of_pose.items(), strict=True):
        for ax, (cost, label) in zip(panels, _COSTS.items(), strict=True):
            ax.set_xlabel(label)
            ax.label_outer()
            labelled.append((ax, _draw(ax, rows, _costs(rows, cost), styles, texts)))
            sns.despine(ax=ax)
        style.clip(panels[0])
        panels[0].set_ylabel("test accuracy, %")
        if len(of_pose) > 1:
            panels[0].set_title(f"pose {style.shortened(pose)}")
    for ax, cost in zip(grid[0], _COSTS, strict=True):
        _scale(ax, np.concatenate([_costs(rows, cost) for rows in of_pose.values()]))
    style.add_chance(grid.flat, findings.study)
    style.finished(drawn, findings.study, legend, "What accuracy costs", note).draw_without_rendering()
    for ax, (points, line) in labelled:
        place_labels(ax, points, line)
    return drawn


def _costs(rows: Sequence[Row], cost: str) -> Floats:
    return np.array([float(getattr(row, cost)) for row in rows])


def frontier(cost_R: Floats, accuracy_R: Floats) -> list[int]:
    """Indices of those that are more accurate than all that cost as little or less, from cheap to dear."""
    order = sorted(range(len(cost_R)), key=lambda i: (cost_R[i], -accuracy_R[i]))
    best_R = np.maximum.accumulate([-np.inf, *accuracy_R[order]])
    return [i for i, best in zip(order, best_R, strict=False) if accuracy_R[i] > best]


def _draw(
    ax: Axes, rows: Sequence[Row], cost_R: Floats, styles: dict[str, style.LineStyle], texts: dict[str, str]
) -> tuple[list[Point], Line2D]:
    """The points to be labelled, and the frontier."""
    accuracy_R = np.array([100 * row.test_accuracy.value for row in rows])
    half_R = 100 * np.nan_to_num([row.test_accuracy.half_width for row in rows])
    on = frontier(cost_R, accuracy_R)
    ends = np.append(cost_R[on], cost_R.max()), np.append(accuracy_R[on], accuracy_R.max())
    (line,) = ax.step(*ends, where="post", color=style.MUTED, linewidth=1, zorder=1)
    points = []
    for i, row in enumerate(rows):
        look, bar = styles[row.variant], accuracy_R[i] + half_R[i] * np.array([-1, 1])
        # Ends show whose a bar is where variants cost the same, such as those that differ in their policy only.
        ax.plot([cost_R[i]] * 2, bar, "_-", color=look.color, linewidth=1, markersize=5, zorder=2)
        fill = look.color if i in on else "white"
        ax.plot(cost_R[i], accuracy_R[i], look.marker, color=look.color, markersize=5, markerfacecolor=fill, zorder=3)
        points.append(Point(cost_R[i], accuracy_R[i], half_R[i], texts[row.variant]))
    return points, line


def _scale(ax: Axes, cost_R: Floats) -> None:
    low, high = cost_R.min(), cost_R.max()
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


def _legend(styles: dict[str, style.LineStyle], texts: dict[str, str], *, named: bool) -> list[Artist]:
    dot: dict[str, Any] = {"linestyle": "", "markersize": 5}
    variants = (
        {} if named else {f"{texts[name]}  {style.wrapped_name(name, 30)}": look for name, look in styles.items()}
    )
    return [
        *(Line2D([], [], marker=look.marker, color=look.color, label=label, **dot) for label, look in variants.items()),
        Line2D([], [], color=style.MUTED, linewidth=1, label="frontier"),
        Line2D([], [], marker="o", color=style.MUTED, label="on the frontier", **dot),
        Line2D(
            [],
            [],
            marker="o",
            color=style.MUTED,
            markerfacecolor="white",
            label="beaten at the same cost or less",
            **dot,
        ),
    ]
