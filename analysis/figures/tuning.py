"""How tuning went: the trials of each variant in their order, and over the values of what was tuned."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from analysis.figures import figure, style
from analysis.figures.selection import arm_label, grid_shape, lines, parameter_label, selected
from analysis.findings import Findings
from analysis.records import Arm, Study
from analysis.run_records import HYPER_PARAMETERS
from analysis.statistics import Floats

_MOST_PANELS, _COLUMNS = 12, 3
_MOST_ROWS, _MOST_PARAMETERS = 6, 5
_LEAST_TRIALS = 4
"""Completed trials of one variant without which there is nothing to be learnt of tuning."""

_LABEL = 30
_LOG_RATIO = 8.0
"""Values that differ by such a factor stand on a logarithmic axis, unless study.json says how they were drawn."""

_MARKS: dict[str, dict[str, Any]] = {
    "completed": {"marker": "o", "color": style.MAIN, "markersize": 4},
    "pruned": {"marker": "v", "color": style.COLORS[1], "markersize": 4},
    "diverged": {"marker": "x", "color": style.COLORS[3], "markersize": 5},
    "failed": {"marker": "P", "color": style.MUTED, "markersize": 5},
}
_WINNER: dict[str, Any] = {"marker": "o", "color": "black", "markersize": 8, "markerfacecolor": "none", "linestyle": ""}


class _Trials(NamedTuple):
    """The trials of an arm that ran, in the order they were proposed.

    runs: rows of study.runs with `number` (from 1) and `percent` (validation accuracy; NaN without one).
    """

    arm: int
    winners: tuple[str, ...]
    runs: pd.DataFrame


@figure(
    "tuning",
    "The trials of each variant in the order they were tried: validation accuracy of each and, as a line, the best so "
    "far. Where the line still climbs at its end, more trials would probably find better hyper-parameters.",
)
def tuning(findings: Findings) -> Figure | None:
    """A panel a variant. None for a study without _LEAST_TRIALS completed ones of one variant."""
    study = findings.study
    trials, note = _selected_trials(study, _MOST_PANELS)
    if not trials:
        return None
    rows, columns = grid_shape(len(trials), _COLUMNS)
    drawn = Figure(figsize=(style.WIDTH_IN, 1.4 + 1.5 * rows))
    axes = drawn.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(trials) :]:
        ax.set_axis_off()
    for ax, of_arm in zip(axes.flat, trials, strict=False):
        runs = of_arm.runs
        for _, of_seed in runs[runs["number"].notna()].groupby("seed"):
            best = of_seed["percent"].where(of_seed["status"] == "completed").cummax().ffill()
            ax.step(of_seed["number"], best, where="post", color=style.REFERENCE, linewidth=1)
        _draw_marks(ax, of_arm, runs["number"].to_numpy(dtype=np.float64))
        ax.set_title(arm_label(study, of_arm.arm, _LABEL), fontsize=7.5)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    for column in range(columns):
        lowest = max(i for i in range(rows) if axes[i, column].axison)
        axes[lowest, column].set_xlabel("trial")
        axes[lowest, column].tick_params(labelbottom=True)
    style.clip_accuracies(axes[0, 0])
    drawn.supylabel("validation accuracy, %")
    style.add_title(drawn, study, lines("How tuning went", note))
    best_so_far = Line2D([], [], color=style.REFERENCE, linewidth=1, label="best so far")
    style.add_legend(drawn, [best_so_far, *_legend(trials)], 6)
    return drawn


@figure(
    "slices",
    "Validation accuracy of each variant's trials over the values that were tried, a column a hyper-parameter. A slope "
    "or a hump shows that the value matters; a cloud without shape, that it hardly does.",
)
def slices(findings: Findings) -> Figure | None:
    """A row a variant, a column a hyper-parameter that was tuned. None as for tuning, or if nothing was tuned."""
    study = findings.study
    trials, note = _selected_trials(study, _MOST_ROWS)
    names, left_out = _tuned_names(trials)
    trials = [of_arm for of_arm in trials if any(_is_tuned(of_arm.runs, name) for name in names)]
    if not names or not trials:
        return None
    drawn = Figure(figsize=(style.WIDTH_IN, 1.4 + 1.3 * len(trials)))
    axes = drawn.subplots(len(trials), len(names), squeeze=False, sharey=True, sharex="col")
    for column, name in enumerate(names):
        values = [value for of_arm in trials for value in of_arm.runs[name].dropna()]
        choices = [] if all(map(_is_number, values)) else sorted(set(map(_choice, values)))
        for ax, of_arm in zip(axes[:, column], trials, strict=True):
            if _is_tuned(of_arm.runs, name):
                _draw_marks(ax, of_arm, _places(of_arm.runs[name], choices))
            else:
                style.add_note(ax, "not tuned")
                ax.grid(visible=False)
                for spine in ax.spines.values():
                    spine.set_visible(False)
            if column == 0:
                ax.set_title(arm_label(study, of_arm.arm, _LABEL), fontsize=7.5)
        _set_scale(axes[-1, column], values, choices, any(_is_log(study.arms[of_arm.arm], name) for of_arm in trials))
        axes[-1, column].set_xlabel(parameter_label(name, 22))
    style.clip_accuracies(axes[0, 0])
    drawn.supylabel("validation accuracy, %")
    style.add_title(drawn, study, lines("What was tried, and how it went", note, left_out))
    style.add_legend(drawn, _legend(trials), 6)
    return drawn


def _selected_trials(study: Study, most: int) -> tuple[list[_Trials], str]:
    runs = study.runs[(study.runs["stage"] == "trial") & (study.runs["status"] != "missing")]
    of_arm = {}
    for arm, rows in runs.groupby("arm", sort=True):
        listed = study.arms[int(str(arm))]
        rows = rows.assign(number=_numbers(rows, listed.trials), percent=100 * rows["val_accuracy"])
        if rows["percent"].notna().any() and len(rows) > 1:
            of_arm[int(str(arm))] = _Trials(int(str(arm)), listed.winners, rows)
    completed = [int((trials.runs["status"] == "completed").sum()) for trials in of_arm.values()]
    if max(completed, default=0) < _LEAST_TRIALS:
        return [], ""
    arms, note = selected(study, of_arm, most)
    return [of_arm[arm] for arm in arms], note


def _numbers(runs: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[int]":
    """Which of its tuning's trials each run is, from 1: those with one seed belong together."""
    place = runs["key"].map({key: i for i, key in enumerate(keys)})
    first = place.groupby(runs["seed"]).transform("min").where(runs["seed"] < runs["seed"].max(), 0)
    return (1 + place - first).astype(int)


def _tuned_names(trials: list[_Trials]) -> tuple[list[str], str]:
    """The hyper-parameters of which most variants tried several values, and a line on those that have no room."""
    names = [
        name
        for name in (trials[0].runs.columns if trials else [])
        if name.startswith(tuple(f"{o}." for o in HYPER_PARAMETERS))
    ]
    counts = {name: sum(_is_tuned(of_arm.runs, name) for of_arm in trials) for name in names}
    tuned = sorted((name for name in names if counts[name]), key=lambda name: -counts[name])
    shown = tuned[:_MOST_PARAMETERS]
    return (
        shown,
        f"the {len(shown)} hyper-parameters that most variants tuned, of {len(tuned)}" if shown != tuned else "",
    )


def _is_tuned(runs: pd.DataFrame, name: str) -> bool:
    return int(runs[name].nunique()) > 1


def _places(values: "pd.Series[Any]", choices: list[str]) -> Floats:
    """Of the values on their axis, (T,); NaN where there is none."""
    if choices:
        values = values.map(lambda value: choices.index(_choice(value)), na_action="ignore")
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _choice(value: object) -> str:
    """As it is written in a sweep file."""
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def _is_log(arm: Arm, name: str) -> bool:
    about = arm.space.get(name)
    return isinstance(about, dict) and "log" in str(about.get("distribution"))


def _set_scale(ax: Axes, values: list[Any], choices: list[str], is_log: bool) -> None:
    """Of a column of panels, which share it."""
    if choices:
        ax.set_xticks(range(len(choices)), [style.shortened(choice, 12) for choice in choices])
        ax.set_xlim(-0.6, len(choices) - 0.4)
        return
    low, high = min(values), max(values)
    if low > 0 and (is_log or high / low > _LOG_RATIO):
        ax.set_xscale("log")
        ticks = _log_ticks(low, high)
        ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        is_whole = all(float(value).is_integer() for value in values)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=is_whole))


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, four at most; its ends where it holds fewer than two."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [each for decade in decades for digit in digits if low <= (each := digit * 10.0**decade) <= high]
        if len(ticks) <= 4:
            return ticks if len(ticks) > 1 else [low, high]
    return ticks[:: -(-len(ticks) // 4)]


def _draw_marks(ax: Axes, trials: _Trials, x_T: Floats) -> None:
    """Trials without a score stand at the foot of the panel."""
    percent_T = trials.runs["percent"].to_numpy(dtype=np.float64)
    for status, mark in _MARKS.items():
        is_status_T = (trials.runs["status"] == status).to_numpy()
        scored_T, lost_T = is_status_T & ~np.isnan(percent_T), is_status_T & np.isnan(percent_T)
        ax.plot(x_T[scored_T], percent_T[scored_T], linestyle="", zorder=3, clip_on=False, in_layout=False, **mark)
        ax.plot(x_T[lost_T], np.full(lost_T.sum(), 0.04), linestyle="", transform=ax.get_xaxis_transform(), **mark)
    is_winner_T = trials.runs["key"].isin(trials.winners).to_numpy()
    ax.plot(x_T[is_winner_T], percent_T[is_winner_T], zorder=4, clip_on=False, **_WINNER)
    ax.margins(x=0.08, y=0.12)


def _legend(trials: list[_Trials]) -> list[Artist]:
    statuses = {status for of_arm in trials for status in of_arm.runs["status"]}
    handles: list[Artist] = [
        Line2D([], [], linestyle="", label=status, **mark) for status, mark in _MARKS.items() if status in statuses
    ]
    return [*handles, Line2D([], [], label="chosen", **_WINNER)]
