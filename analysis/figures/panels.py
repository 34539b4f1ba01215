"""Lines of variants over something, in small multiples: a panel a pose, or where there are many a panel a model.

Legend: X points along the horizontal axis, S seeds. Scores are fractions and drawn in per cent.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import (
    BACKGROUND,
    MUTED,
    WIDTH_IN,
    LineStyle,
    add_legend,
    add_majority,
    add_note,
    add_title,
    clip_accuracies,
    line_styles,
    model_of,
    variant_styles,
    wrapped_name,
)
from analysis.means import MIN_SEEDS
from analysis.records import Study
from analysis.statistics import Floats, mean_interval
from ledger.names import variant_parts

TOGETHER = 6
"""Variants of a pose that are told apart in one panel."""

MAX_LINES = 36
"""Variants that a figure has room for."""

BANDS = "Bands are 95 % intervals of the mean over seeds; of fewer than three seeds, thin lines show each."
"""For captions."""

_COLUMNS = 3
_MAX_PANEL_TITLE = 27
_BAND_ALPHA = 0.18
_SEED: dict[str, Any] = {"linewidth": 0.6, "alpha": 0.6, "marker": ".", "markersize": 1.5}


class Line(NamedTuple):
    """A variant at a pose: its mean over seeds with the half width of its interval (NaN where there is none).

    seed_XS: single seeds where they take the place of the interval, else NaN. lost: x and y of runs that were not
    completed.
    """

    pose: str
    variant: str
    x_X: Floats
    mean_X: Floats
    half_width_X: Floats
    seed_XS: Floats
    lost: Sequence[tuple[Floats, Floats]] = ()


class Axis(NamedTuple):
    """What runs along the bottom of a column of panels.

    ticks: None for whole numbers. reference: a line to read others against, x and y in per cent.
    """

    label: str
    ticks: Sequence[float] | None = None
    tick_labels: Sequence[str] | None = None
    scale: str = "linear"
    reference: tuple[Sequence[float], Sequence[float]] | None = None


class _Panel(NamedTuple):
    pose: str
    model: str
    lines: list[list[Line]]
    """By axis."""


def line_over(pose: str, variant: str, x_X: Floats, score_XS: Floats) -> Line:
    """The line of scores by seed; NaN where a seed has none."""
    estimate = mean_interval(score_XS)
    has_band_X = estimate.num_X >= MIN_SEEDS
    half_width_X = np.where(has_band_X, estimate.half_width_X, np.nan)
    seed_XS = np.where((has_band_X | (estimate.num_X < 2))[:, None], np.nan, score_XS)
    return Line(pose, variant, x_X, estimate.mean_X, half_width_X, seed_XS)


def panels_figure(
    study: Study,
    lines: Sequence[Sequence[Line]],
    axes: Sequence[Axis],
    *,
    title: str,
    score: str,
    nothing: str,
    together: int = TOGETHER,
) -> Figure:
    """lines: for each axis. score: what they show. nothing: said in a panel without a line. together: as TOGETHER."""
    poses = list(dict.fromkeys(line.pose for of_axis in lines for line in of_axis))
    most = max(len({line.variant for of_axis in lines for line in of_axis if line.pose == pose}) for pose in poses)
    one_panel = most <= together
    styles = _styles([line.variant for of_axis in lines for line in of_axis], one_panel=one_panel)
    rows = _rows(_panels(lines, poses, one_panel=one_panel), len(axes))
    num_columns = len(axes) if len(axes) > 1 else max(map(len, rows))
    height_in = 1.7 if len(axes) > 1 or num_columns > 1 else 2.6
    fig = Figure(figsize=(WIDTH_IN, 1.1 + height_in * len(rows)))
    grid = fig.subplots(len(rows), num_columns, squeeze=False, sharex="col" if len(axes) > 1 else True, sharey=True)
    for ax in grid.flat:
        ax.set_autoscale_on(False)  # once, at the end: each look at shared limits visits all panels
    for row, panels in zip(grid, rows, strict=True):
        for ax in row[len(panels) * len(axes) :]:
            ax.set_axis_off()
        cells = [(panel, a) for panel in panels for a in range(len(axes))]
        for ax, (panel, a) in zip(row, cells, strict=False):
            if not one_panel:
                _draw_others(ax, [line for line in lines[a] if line.pose == panel.pose])
            _draw(ax, panel.lines[a], styles, nothing)
            reference = axes[a].reference
            if reference is not None:
                ax.plot(*reference, color=MUTED, linewidth=0.8, zorder=1)
            if a == 0:
                ax.set_title(_panel_title(panel, several_poses=len(poses) > 1))
            sns.despine(ax=ax)
    for column, ax in enumerate(grid[0]):
        ax.set_autoscale_on(True)
        axis = axes[column if len(axes) > 1 else 0]
        ax.set_xscale(axis.scale)
        if axis.ticks is None:
            ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        else:
            ax.minorticks_off()
            ax.set_xticks(axis.ticks, axis.tick_labels)
        ax.autoscale()
        lowest = max(i for i, panels in enumerate(rows) if len(panels) * len(axes) > column)
        grid[lowest, column].set_xlabel(axis.label)
        grid[lowest, column].tick_params(labelbottom=True)
    clip_accuracies(grid[0, 0])
    fig.supylabel(f"{score}, %")
    majority = score.endswith("accuracy") and all(axis.reference is None for axis in axes)
    used = [ax for ax in grid.flat if ax.axison]
    add_title(fig, study, title)
    handles = [*_legend(lines, styles, nothing, one_panel=one_panel), *(add_majority(used, study) if majority else ())]
    add_legend(fig, handles)
    return fig


def _styles(variants: Sequence[str], *, one_panel: bool) -> Mapping[str, LineStyle]:
    """By variant. In panels of one model, what differs is the policy."""
    if one_panel:
        return variant_styles(variants)
    of_policy = line_styles([variant_parts(variant).policy for variant in variants])
    return {variant: of_policy[variant_parts(variant).policy] for variant in variants}


def _panels(lines: Sequence[Sequence[Line]], poses: Sequence[str], *, one_panel: bool) -> dict[str, list[_Panel]]:
    """By pose."""
    panels: dict[tuple[str, str], _Panel] = {}
    for a, of_axis in enumerate(lines):
        for line in of_axis:
            model = "" if one_panel else model_of(line.variant)
            panel = panels.setdefault((line.pose, model), _Panel(line.pose, model, [[] for _ in lines]))
            panel.lines[a].append(line)
    return {pose: [panel for panel in panels.values() if panel.pose == pose] for pose in poses}


def _rows(panels: Mapping[str, list[_Panel]], num_axes: int) -> list[list[_Panel]]:
    """Each pose begins a row, unless it is one panel."""
    width = _COLUMNS if num_axes == 1 else 1
    if all(len(of_pose) == 1 for of_pose in panels.values()):
        panels = {"": [panel for of_pose in panels.values() for panel in of_pose]}
    return [of_pose[i : i + width] for of_pose in panels.values() for i in range(0, len(of_pose), width)]


def _panel_title(panel: _Panel, *, several_poses: bool) -> str:
    pose = f"pose {wrapped_name(panel.pose, _MAX_PANEL_TITLE - 5)}" if several_poses else ""
    title = wrapped_name(panel.model, _MAX_PANEL_TITLE) if panel.model else ""
    if not (pose and title):
        return pose or title
    fits = len(panel.model) + len(pose) + 2 <= _MAX_PANEL_TITLE
    return f"{title}{', ' if fits else chr(10)}{pose}"


def _draw_others(ax: Axes, lines: Sequence[Line]) -> None:
    """All lines as one with gaps."""
    if lines:
        x, y = (np.concatenate([np.append(line[field], np.nan) for line in lines]) for field in (2, 3))
        ax.plot(x, 100 * y, color=BACKGROUND, linewidth=0.8, zorder=1)


def _draw(ax: Axes, lines: Sequence[Line], styles: Mapping[str, LineStyle], nothing: str) -> None:
    for i, line in enumerate(lines):
        style = styles[line.variant]
        if not np.isnan(line.half_width_X).all():
            ends = 100 * (line.mean_X - line.half_width_X), 100 * (line.mean_X + line.half_width_X)
            ax.fill_between(line.x_X, *ends, color=style.color, alpha=_BAND_ALPHA, linewidth=0)
        step = max(1, len(line.x_X) // 5)
        # Not clipped: a marker at 0 or 100 % is at the axes' end.
        ax.plot(
            line.x_X, 100 * line.mean_X, zorder=3, markevery=(i % step, step), clip_on=False, in_layout=False,
            **style._asdict(),
        )  # fmt: skip
        for seed_X in line.seed_XS.T[~np.isnan(line.seed_XS).all(axis=0)]:
            ax.plot(line.x_X, 100 * seed_X, zorder=2, color=style.color, **_SEED)
        for x_X, y_X in line.lost:
            ax.plot(x_X, 100 * y_X, color=style.color, linestyle=":", linewidth=0.8, zorder=2)
            ax.plot(x_X[-1:], 100 * y_X[-1:], "x", color=style.color, markersize=4, zorder=2)
    if not any(len(line.x_X) or line.lost for line in lines):
        add_note(ax, nothing)


def _legend(
    lines: Sequence[Sequence[Line]], styles: Mapping[str, LineStyle], nothing: str, *, one_panel: bool
) -> list[Artist]:
    drawn = {line.variant for of_axis in lines for line in of_axis if len(line.x_X) or line.lost}
    labels: dict[str, LineStyle] = {}
    for variant, style in styles.items():
        policy = variant_parts(variant).policy
        label = wrapped_name(variant if one_panel else f"+{policy}" if policy else "no policy")
        labels.setdefault(label if variant in drawn or not one_panel else f"{label}  ({nothing})", style)
    handles: list[Artist] = [Line2D([], [], label=label, **style._asdict()) for label, style in labels.items()]
    all_lines = [line for of_axis in lines for line in of_axis]
    if any(not np.isnan(line.half_width_X).all() for line in all_lines):
        handles.append(Patch(color=MUTED, alpha=_BAND_ALPHA, linewidth=0, label="95 % interval over seeds"))
    if any(not np.isnan(line.seed_XS).all() for line in all_lines):
        handles.append(Line2D([], [], color=MUTED, label="one seed, of two", **_SEED))
    if not one_panel and len({model_of(line.variant) for line in all_lines}) > 1:
        handles.append(Line2D([], [], color=BACKGROUND, linewidth=0.8, label="other variants"))
    if any(line.lost for line in all_lines):
        handles.append(Line2D([], [], color=MUTED, linestyle=":", marker="x", linewidth=0.8, label="stopped early"))
    return handles
