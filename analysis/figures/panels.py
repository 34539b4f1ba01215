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

from analysis.figures import style
from analysis.figures.grids import label_below, panel_grid
from analysis.figures.selection import grouped
from analysis.means import MIN_SEEDS
from analysis.records import Study
from analysis.statistics import Floats, mean_interval
from ledger.names import variant_parts

TOGETHER = 4
"""Variants of a pose whose bands are told apart in one panel."""

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

    @property
    def has_band(self) -> bool:
        return not np.isnan(self.half_width_X).all()

    @property
    def is_drawn(self) -> bool:
        return bool(len(self.x_X) or self.lost)


class Column(NamedTuple):
    """The lines of a column of panels, and what runs along its bottom.

    ticks: None for whole numbers. reference: a line to read others against, x and y in per cent.
    """

    label: str
    lines: Sequence[Line]
    ticks: Sequence[float] | None = None
    tick_labels: Sequence[str] | None = None
    scale: str = "linear"
    reference: tuple[Sequence[float], Sequence[float]] | None = None


_Panel = tuple[str, str]
"""The pose and the model of the lines that are told apart in it; the model is "" where it has those of all models."""


def line_over(pose: str, variant: str, x_X: Floats, score_XS: Floats) -> Line:
    """The line of scores by seed; NaN where a seed has none."""
    estimate = mean_interval(score_XS)
    has_band_X = estimate.num_X >= MIN_SEEDS
    half_width_X = np.where(has_band_X, estimate.half_width_X, np.nan)
    seed_XS = np.where((has_band_X | (estimate.num_X < 2))[:, None], np.nan, score_XS)
    return Line(pose, variant, x_X, estimate.mean_X, half_width_X, seed_XS)


def lines_figure(
    study: Study, columns: Sequence[Column], *title: str, score: str, nothing: str, together: int = TOGETHER
) -> Figure:
    """A panel a pose, or a model and pose; with several columns, a row of panels each.

    score: what the lines show. nothing: said in a panel without a line. together: as TOGETHER.
    """
    lines = [line for column in columns for line in column.lines]
    of_pose = grouped(lines, lambda line: line.pose)
    one_panel = max(len({line.variant for line in of_lines}) for of_lines in of_pose.values()) <= together

    def panel_of(line: Line) -> _Panel:
        return line.pose, "" if one_panel else style.model_of(line.variant)

    styles = variant_looks([line.variant for line in lines], one_panel=one_panel)
    rows = _rows(list(dict.fromkeys(map(panel_of, lines))), 1 if len(columns) > 1 else _COLUMNS)
    num_columns = len(columns) if len(columns) > 1 else max(map(len, rows))
    height_in, sharex = 1.7 if num_columns > 1 else 2.6, "col" if len(columns) > 1 else "all"
    num = len(rows) * num_columns
    drawn, grid = panel_grid(num, num_columns, height_in, rest_in=1.1, sharex=sharex, sharey=True)
    for ax in grid.flat:
        ax.set_autoscale_on(False)  # once, at the end: each look at shared limits visits all panels
    for row, panels in zip(grid, rows, strict=True):
        for ax in row[len(panels) * len(columns) :]:
            ax.set_axis_off()
        for ax, (panel, column) in zip(row, [(p, column) for p in panels for column in columns], strict=False):
            if not one_panel:
                _draw_others(ax, [line for line in column.lines if line.pose == panel[0]])
            _draw(ax, [line for line in column.lines if panel_of(line) == panel], styles, nothing)
            if column.reference is not None:
                ax.plot(*column.reference, color=style.MUTED, linewidth=0.8, zorder=1)
            if column is columns[0]:
                ax.set_title(_panel_title(panel, several_poses=len(of_pose) > 1))
            sns.despine(ax=ax)
    for i, ax in enumerate(grid[0]):
        _set_axis(ax, columns[i % len(columns)])
    label_below(grid, *(column.label for column in columns))
    style.clip(grid[0, 0])
    drawn.supylabel(f"{score}, %")
    handles = _legend(lines, styles, nothing, one_panel=one_panel)
    if score.endswith("accuracy") and not any(column.reference for column in columns):
        handles += style.add_chance([ax for ax in grid.flat if ax.axison], study)
    return style.finished(drawn, study, handles, *title)


def variant_looks(variants: Sequence[str], *, one_panel: bool) -> Mapping[str, style.LineStyle]:
    """By variant. In panels of one model, and in one panel where all have the same, what differs is the policy."""
    if one_panel and len({style.model_of(variant) for variant in variants}) > 1:
        return style.variant_styles(variants)
    of_policy = style.line_styles([variant_parts(variant).policy for variant in variants])
    return {variant: of_policy[variant_parts(variant).policy] for variant in variants}


def _rows(panels: list[_Panel], width: int) -> list[list[_Panel]]:
    """Each pose begins a row, unless it is one panel."""
    of_pose = list(grouped(panels, lambda panel: panel[0]).values())
    if len(of_pose) == len(panels):
        of_pose = [panels]
    return [of_row[i : i + width] for of_row in of_pose for i in range(0, len(of_row), width)]


def _panel_title(panel: _Panel, *, several_poses: bool) -> str:
    pose, model = panel
    where = f"pose {style.wrapped_name(pose, _MAX_PANEL_TITLE - 5)}" if several_poses else ""
    fits = len(model) + len(where) + 2 <= _MAX_PANEL_TITLE
    return (", " if fits else "\n").join(filter(None, [model and style.wrapped_name(model, _MAX_PANEL_TITLE), where]))


def _set_axis(ax: Axes, column: Column) -> None:
    """Scale, ticks and limits for all panels of a column, which share them."""
    ax.set_autoscale_on(True)
    ax.set_xscale(column.scale)
    if column.ticks is None:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    else:
        ax.minorticks_off()
        ax.set_xticks(column.ticks, column.tick_labels)
    ax.autoscale()


def _draw_others(ax: Axes, lines: Sequence[Line]) -> None:
    """All lines as one with gaps."""
    if lines:
        x, y = (np.concatenate([np.append(line[field], np.nan) for line in lines]) for field in (2, 3))
        ax.plot(x, 100 * y, color=style.BACKGROUND, linewidth=0.8, zorder=1)


def _draw(ax: Axes, lines: Sequence[Line], styles: Mapping[str, style.LineStyle], nothing: str) -> None:
    for i, line in enumerate(lines):
        look = styles[line.variant]
        if line.has_band:
            ends = 100 * (line.mean_X - line.half_width_X), 100 * (line.mean_X + line.half_width_X)
            ax.fill_between(line.x_X, *ends, color=look.color, alpha=_BAND_ALPHA, linewidth=0)
        step = max(1, len(line.x_X) // 5)
        # Not clipped: a marker at 0 or 100 % is at the axes' end.
        whole: dict[str, Any] = {"clip_on": False, "in_layout": False}
        ax.plot(line.x_X, 100 * line.mean_X, zorder=3, markevery=(i % step, step), **whole, **look._asdict())
        for seed_X in line.seed_XS.T[~np.isnan(line.seed_XS).all(axis=0)]:
            ax.plot(line.x_X, 100 * seed_X, zorder=2, color=look.color, **_SEED)
        for x_X, y_X in line.lost:
            ax.plot(x_X, 100 * y_X, color=look.color, linestyle=":", linewidth=0.8, zorder=2)
            ax.plot(x_X[-1:], 100 * y_X[-1:], "x", color=look.color, markersize=4, zorder=2)
    if not any(line.is_drawn for line in lines):
        style.add_note(ax, nothing)


def _legend(
    lines: Sequence[Line], styles: Mapping[str, style.LineStyle], nothing: str, *, one_panel: bool
) -> list[Artist]:
    drawn = {line.variant for line in lines if line.is_drawn}
    labels: dict[str, style.LineStyle] = {}
    for variant, look in styles.items():
        policy = variant_parts(variant).policy
        label = style.wrapped_name(variant if one_panel else f"+{policy}" if policy else "no policy")
        labels.setdefault(label if variant in drawn or not one_panel else f"{label}  ({nothing})", look)
    handles: list[Artist] = [Line2D([], [], label=label, **look._asdict()) for label, look in labels.items()]
    if any(line.has_band for line in lines):
        handles.append(Patch(color=style.MUTED, alpha=_BAND_ALPHA, linewidth=0, label="95 % interval over seeds"))
    if any(not np.isnan(line.seed_XS).all() for line in lines):
        handles.append(Line2D([], [], color=style.MUTED, label="one seed, of two", **_SEED))
    if not one_panel and len({style.model_of(line.variant) for line in lines}) > 1:
        handles.append(Line2D([], [], color=style.BACKGROUND, linewidth=0.8, label="other variants"))
    if any(line.lost for line in lines):
        handles.append(
            Line2D([], [], color=style.MUTED, linestyle=":", marker="x", linewidth=0.8, label="stopped early")
        )
    return handles
