"""Draws a study: what the variants reach, what they gain on their baselines, how they get there, over which poses.

The same ledger gives the same picture: nothing is drawn at random, and SVG files carry no date.
"""

import io
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.ablation import Ablation, Row, Section, study_ablation
from analysis.formats import one_line
from analysis.means import Mean
from analysis.names import name_and_options, variant_parts, wrapped
from analysis.records import Study, read_histories, read_study
from analysis.reports import write_files
from analysis.statistics import mean_interval

_STYLE = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("paper"),
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture on every machine
    "text.parse_math": False,  # a $ in a label is a $
    "svg.hashsalt": "stn-bench",
    "grid.color": "0.93",
    "axes.edgecolor": "0.6",
}
_COLORS = sns.color_palette("colorblind")
_SEED, _MEAN, _LOST, _OTHER = "0.55", _COLORS[0], "0.45", "0.82"
_MAX_LABEL = 44
_MAX_PANEL_TITLE = 34
_COLUMNS = 3
"""Panels of learning curves side by side."""


def write_figures(ledger: Path, study: str, out: Path) -> list[Path]:
    """Write ablation.png, ablation.svg, curves.png and curves.svg into `out`; returns their paths.

    Also ranges.png and ranges.svg for a study over ranges of rotation; for any other, they are deleted.
    Raises AnalysisError (a ValueError of one line) if the study cannot be read or `out` cannot be written.
    """
    record = read_study(ledger, study)
    table = study_ablation(record)
    files: dict[str, bytes] = {}
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands for it
        figures = {"ablation": ablation_figure(table), "curves": curves_figure(record, table)}
        ranges = ranges_figure(table)
        if ranges:
            figures["ranges"] = ranges
        for name, figure in figures.items():
            files[f"{name}.png"] = _bytes(figure, "png", {"Software": None})
            files[f"{name}.svg"] = _bytes(figure, "svg", {"Date": None, "Creator": None})
    return write_files(out, files, optional=("ranges.png", "ranges.svg"))


def ablation_figure(table: Ablation) -> Figure:
    """Left: test accuracy by variant. Right: the paired differences to the baselines. A row of panels a pose."""
    heights = [len(section.rows) for section in table.sections]
    figure = Figure(figsize=(8.5, 1.5 + 0.3 * sum(heights) + 0.35 * len(heights)))
    axes = figure.subplots(
        len(heights), 2, squeeze=False, sharex="col", gridspec_kw={"height_ratios": [h + 0.5 for h in heights]}
    )
    for section, (left, right) in zip(table.sections, axes, strict=True):
        _draw_accuracies(left, section)
        _draw_differences(right, section)
        for ax in (left, right):
            ax.set_ylim(len(section.rows) - 0.5, -0.5)
            ax.tick_params(left=False, right=False)
            ax.grid(visible=False, axis="y")
            ax.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
            sns.despine(ax=ax, left=True)
        if len(table.sections) > 1:
            left.set_title(f"pose {_short(section.pose)}", loc="left", fontsize="medium")
    axes[-1, 0].set_xlabel("test accuracy, %")
    axes[-1, 1].set_xlabel("difference to the baseline, percentage points")
    figure.suptitle(_title(table))
    figure.legend(handles=_ablation_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def curves_figure(study: Study, table: Ablation) -> Figure:
    """Validation accuracy over epochs of the final runs: a panel a model and pose, a colour a policy.

    Mean and 95 % interval of the completed runs; each run that stopped early is a dotted line of its own.
    """
    curves = _curves(study, table)
    others = {section.pose: _joined_means(section, curves) for section in table.sections}
    policies = list(dict.fromkeys(_policy(row) for row in table.rows))
    styles = {policy: _line_style(i) for i, policy in enumerate(policies)}
    grid: list[list[tuple[str, str, list[Row]]]] = []
    for section in table.sections:
        rows_of_model: dict[str, list[Row]] = {}
        for row in section.rows:
            rows_of_model.setdefault(_model(row.variant), []).append(row)
        panels = [(section.pose, model, rows) for model, rows in rows_of_model.items()]
        grid += [panels[i : i + _COLUMNS] for i in range(0, len(panels), _COLUMNS)]
    num_columns = max(map(len, grid))
    figure = Figure(figsize=(1.2 + 2.5 * max(num_columns, 2), 1.1 + 2.1 * len(grid)))
    axes = figure.subplots(len(grid), num_columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat:
        ax.set_autoscale_on(False)  # once, at the end: each look at shared limits visits all panels
    for axes_row, panels in zip(axes, grid, strict=True):
        for ax in axes_row[len(panels) :]:
            ax.set_axis_off()
        for ax, (pose, model, rows) in zip(axes_row, panels, strict=False):
            ax.plot(*others[pose], color=_OTHER, linewidth=0.8, zorder=1)
            _draw_curves(ax, rows, curves, styles)
            title = _wrapped(model, _MAX_PANEL_TITLE)
            if len(table.sections) > 1:
                separator = ", " if len(model) + len(pose) + 7 <= _MAX_PANEL_TITLE else "\n"
                title += f"{separator}pose {_short(pose)}"
            ax.set_title(title, fontsize="medium")
            sns.despine(ax=ax)
            ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    for ax in axes.flat:
        ax.set_autoscale_on(True)
    axes[0, 0].autoscale()
    for column in range(num_columns):
        lowest = max(i for i, panels in enumerate(grid) if len(panels) > column)
        axes[lowest, column].set_xlabel("epoch")
        axes[lowest, column].tick_params(labelbottom=True)
    figure.supylabel("validation accuracy, %", fontsize="medium")
    figure.suptitle(_title(table))
    figure.legend(handles=_curves_legend(table, styles), loc="outside lower center", ncols=4, frameon=False)
    return figure


def ranges_figure(table: Ablation) -> Figure | None:
    """Test accuracy over the range of the images' rotation: a line a variant, with its 95 % interval over seeds.

    A colour a model and backbone, dashes a policy. Ranges are those of the poses `R:max_deg=...`; upright counts as 0
    and R as 90 deg. None for a study without such a pose or with one range only.
    """
    section_of_range = _section_of_range(table)
    is_about_ranges = any(section.pose not in _PLAIN_RANGES_DEG for section in section_of_range.values())
    if not is_about_ranges or len(section_of_range) < 2:
        return None
    means: dict[str, dict[float, Mean]] = {}
    for max_deg, section in sorted(section_of_range.items()):
        for row in section.rows:
            means.setdefault(row.variant, {})[max_deg] = row.test_accuracy
    num_lines = sum(_wrapped(variant).count("\n") + 1 for variant in means)
    figure = Figure(figsize=(8.5, max(3.6, 1 + 0.21 * num_lines)))
    ax = figure.subplots()
    for (variant, mean_of_range), style in zip(means.items(), _range_styles(list(means)), strict=True):
        scored = {max_deg: mean for max_deg, mean in mean_of_range.items() if mean.num}
        percent_R = 100 * np.array([mean.value for mean in scored.values()])
        half_R = 100 * np.nan_to_num([mean.half_width for mean in scored.values()])
        ax.fill_between(
            list(scored), percent_R - half_R, percent_R + half_R, color=style["color"], alpha=0.15, linewidth=0
        )
        label = _wrapped(variant) + ("" if scored else "  (no completed final run)")
        ax.plot(list(scored), percent_R, linewidth=1.6, markersize=5, label=label, **style)
    ax.set_xticks(sorted(section_of_range), [f"±{deg:g}" if deg else "0" for deg in sorted(section_of_range)])
    ax.set_xlabel("range of the images' rotation, deg")
    ax.set_ylabel("test accuracy, %: mean, 95 % interval")
    ax.grid(visible=False, axis="x")
    sns.despine(ax=ax)
    figure.suptitle(_title(table))
    figure.legend(loc="outside right center", frameon=False)
    return figure


_PLAIN_RANGES_DEG = {"upright": 0.0, "R": 90.0}


def _section_of_range(table: Ablation) -> dict[float, Section]:
    """The sections whose poses differ in their range of rotation only, by that range in degrees."""
    found: dict[float, Section] = {}
    for section in table.sections:
        pose, options = name_and_options(section.pose)
        max_deg = _PLAIN_RANGES_DEG.get(section.pose)
        if pose == "R" and set(options) == {"max_deg"}:
            with suppress(ValueError):
                max_deg = float(options["max_deg"])
        if max_deg is not None:
            found.setdefault(max_deg, section)
    return found


def _range_styles(variants: list[str]) -> list[dict[str, Any]]:
    models = list(dict.fromkeys(_model(variant) for variant in variants))
    policies = list(dict.fromkeys(variant_parts(variant).policy for variant in variants))
    styles = []
    for variant in variants:
        wrap, color = divmod(models.index(_model(variant)), len(_COLORS))
        kind = policies.index(variant_parts(variant).policy) + wrap * len(policies)
        dashes, marker = ("-", "--", ":", "-.")[kind % 4], "osD^vP*X"[kind % 8]
        styles.append({"color": _COLORS[color], "linestyle": dashes, "marker": marker})
    return styles


def _draw_accuracies(ax: Axes, section: Section) -> None:
    for y, row in enumerate(section.rows):
        _draw_estimate(ax, y, row.test_by_seed.values(), row.test_accuracy.value, row.test_accuracy.half_width)
        if not row.test_accuracy.num:
            _note(ax, y, "no completed final run")
    labels = [f"{_wrapped(row.variant)}{_completed_text(row)}" for row in section.rows]
    ax.set_yticks(range(len(labels)), labels)


def _draw_differences(ax: Axes, section: Section) -> None:
    ax.axvline(0, color="0.3", linewidth=1)
    labels = []
    for y, row in enumerate(section.rows):
        labels.append("" if row.difference is None else f"vs {_wrapped(row.baseline)}")
        if row.difference is None:
            _note(ax, y, "its own baseline")
        elif not row.difference.num:
            _note(ax, y, "no pair of completed runs")
        else:
            mean = row.difference
            filled = mean.half_width < abs(mean.value)  # of a single seed nothing is known
            _draw_estimate(ax, y, row.difference_by_seed.values(), mean.value, mean.half_width, filled=filled)
    ax.set_yticks(range(len(labels)), labels)
    ax.yaxis.tick_right()


def _draw_estimate(
    ax: Axes, y: int, scores: Iterable[float], mean: float, half_width: float, *, filled: bool = True
) -> None:
    """Seeds as small dots just under the mean with its interval, so that neither hides the other."""
    scores = [100 * score for score in scores]
    ax.plot(scores, np.full(len(scores), y + 0.22), "o", color=_SEED, markersize=3, markeredgewidth=0)
    if not scores:
        return
    if not np.isnan(half_width):
        ax.plot([100 * (mean - half_width), 100 * (mean + half_width)], [y - 0.08] * 2, color=_MEAN, linewidth=2)
    ax.plot([100 * mean], [y - 0.08], "o", color=_MEAN, markersize=6, markerfacecolor=_MEAN if filled else "white")


def _note(ax: Axes, y: int, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    transform = ax.get_yaxis_transform()
    ax.text(0.5, y, text, transform=transform, ha="center", va="center", color=_LOST, style="italic", bbox=box)


def _completed_text(row: Row) -> str:
    num_finals = len(row.finals)
    return "" if row.test_accuracy.num == num_finals else f"  ({row.test_accuracy.num} of {num_finals})"


def _ablation_legend() -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", marker="o", color=_SEED, markersize=3, label="one seed"),
        Line2D([], [], marker="o", color=_MEAN, linewidth=2, markersize=6, label="mean, 95 % interval over seeds"),
        Line2D(
            [],
            [],
            marker="o",
            color=_MEAN,
            markerfacecolor="white",
            linewidth=2,
            label="interval contains 0, or there is none",
        ),
    ]


Curve = dict[int, float]
"""Validation accuracy by epoch."""


def _draw_curves(
    ax: Axes,
    rows: list[Row],
    curves: dict[str, Curve],
    styles: dict[str, dict[str, Any]],
) -> None:
    shown = False
    for row in rows:
        style = styles[_policy(row)]
        epoch_E, mean_E, half_width_E = _mean_curve(row, curves)
        shown = shown or len(epoch_E) > 0
        ax.fill_between(
            epoch_E, mean_E - half_width_E, mean_E + half_width_E, color=style["color"], alpha=0.2, linewidth=0
        )
        ax.plot(epoch_E, mean_E, linewidth=1.6, zorder=3, marker="o" if len(epoch_E) == 1 else None, **style)
        for run in row.finals:
            curve = {} if run.status == "completed" else curves.get(run.key, {})
            if curve:
                epochs, scores = zip(*curve.items(), strict=True)
                percents = 100 * np.array(scores)
                ax.plot(epochs, percents, color=style["color"], linestyle=":", linewidth=1, zorder=2)
                ax.plot(epochs[-1:], percents[-1:], "x", color=style["color"], markersize=5, zorder=2)
                shown = True
    if not shown:
        ax.text(0.5, 0.5, "no validation scores", transform=ax.transAxes, ha="center", color=_LOST, style="italic")


def _curves(study: Study, table: Ablation) -> dict[str, Curve]:
    """By key, for the final runs that have validation scores."""
    keys = [run.key for row in table.rows for run in row.finals if run.status != "missing"]
    curves: dict[str, Curve] = {}
    for key, epoch, score in read_histories(study, keys).dropna().itertuples(index=False):
        curves.setdefault(key, {})[epoch] = score
    return curves


def _mean_curve(row: Row, curves: dict[str, Curve]) -> tuple[Any, Any, Any]:
    """Epochs, means and half widths in per cent over the completed final runs, arrays of shape E."""
    completed = [curves.get(run.key, {}) for run in row.finals if run.status == "completed"]
    epochs = sorted({epoch for curve in completed for epoch in curve})
    score_ES = np.array([[curve.get(epoch, np.nan) for curve in completed] for epoch in epochs])
    if not epochs:
        return (np.empty(0),) * 3
    estimate = mean_interval(100 * score_ES)
    return np.array(epochs), estimate.mean_X, np.nan_to_num(estimate.half_width_X)


def _joined_means(section: Section, curves: dict[str, Curve]) -> tuple[Any, Any]:
    """The mean curves of all variants as one line with gaps, to be drawn behind every panel."""
    means = [_mean_curve(row, curves) for row in section.rows]
    epochs, scores = ([np.append(mean[axis], np.nan) for mean in means] for axis in (0, 1))
    return np.concatenate(epochs), np.concatenate(scores)


def _policy(row: Row) -> str:
    return variant_parts(row.variant).policy or "none"


def _model(variant: str) -> str:
    """The variant without its policy."""
    return variant.partition("+")[0]


def _line_style(i: int) -> dict[str, Any]:
    """Colours first; past the palette, the same ones with other dashes."""
    dashes = ("-", "--", "-.")
    return {"color": _COLORS[i % len(_COLORS)], "linestyle": dashes[i // len(_COLORS) % len(dashes)]}


def _curves_legend(table: Ablation, styles: dict[str, dict[str, Any]]) -> list[Artist]:
    handles: list[Artist] = [Line2D([], [], label=f"+{_wrapped(policy)}" if policy != "none" else "no policy", **style)
               for policy, style in styles.items()]  # fmt: skip
    handles.append(Patch(color=_LOST, alpha=0.2, linewidth=0, label="95 % interval over seeds"))
    handles.append(Line2D([], [], color=_OTHER, label="other variants"))
    if any(run.status not in ("completed", "missing") for row in table.rows for run in row.finals):
        handles.append(Line2D([], [], color=_LOST, linestyle=":", marker="x", markersize=5, label="stopped early"))
    return handles


def _title(table: Ablation) -> str:
    return f"{_short(table.task_label)} · {_short(table.study)}, protocol {table.protocol_hash}"


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def _wrapped(name: str, width: int = _MAX_LABEL) -> str:
    """Of a variant or policy, on as many lines as it needs: names may differ in their last option only."""
    return wrapped(one_line(name), width)


def _bytes(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=160, metadata=metadata)
    return data.getvalue()
