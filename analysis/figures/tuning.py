"""How tuning went: the trials of each variant, what fewer of them would have found, and which settings mattered."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from analysis.figures import style
from analysis.figures.grids import label_below, panel_grid
from analysis.figures.registry import figure
from analysis.figures.selection import arm_label, grouped, has_poses, parameter_label, selected
from analysis.findings import Findings
from analysis.records import Arm, Study
from analysis.run_records import HYPER_PARAMETERS
from analysis.statistics import Floats
from analysis.statistics.tuning import tuning_budget

_MOST_SLICES, _MOST_SHARES = 5, 8
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

_Trials = dict[int, pd.DataFrame]
"""By arm, its trials that ran, in the order they were proposed: rows of study.runs with `number` (from 1), `percent`
(validation accuracy; NaN without one) and `is_winner`."""


@figure(
    "tuning",
    "The trials of each variant in the order they were tried: validation accuracy of each and, as a line, the best so "
    "far. Where the line still climbs at its end, more trials would probably find better hyper-parameters.",
)
def tuning(findings: Findings) -> Figure | None:
    """A panel a variant. None for a study without _LEAST_TRIALS completed ones of one variant."""
    trials, note = _selected_trials(findings.study, most=12)
    if not trials:
        return None
    drawn, grid = panel_grid(len(trials), 3, 1.5, rest_in=1.4, sharex=True, sharey=True)
    for ax, (arm, runs) in zip(grid.flat, trials.items(), strict=False):
        for _, of_seed in runs[runs["number"].notna()].groupby("seed"):
            best = of_seed["percent"].where(of_seed["status"] == "completed").cummax().ffill()
            ax.step(of_seed["number"], best, where="post", color=style.REFERENCE, linewidth=1)
        _draw_marks(ax, runs, runs["number"].to_numpy(dtype=np.float64))
        ax.set_title(arm_label(findings.study, arm, _LABEL), fontsize=7.5)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    label_below(grid, "trial")
    best_so_far = Line2D([], [], color=style.REFERENCE, linewidth=1, label="best so far")
    return _finished(drawn, findings.study, trials, "How tuning went", note, handles=[best_so_far])


@figure(
    "slices",
    "Validation accuracy of each variant's trials over the values that were tried, a column a hyper-parameter. A slope "
    "or a hump shows that the value matters; a cloud without shape, that it hardly does.",
)
def slices(findings: Findings) -> Figure | None:
    """A row a variant, a column a hyper-parameter that was tuned. None as for tuning, or if nothing was tuned."""
    study = findings.study
    trials, note = _selected_trials(study, most=6)
    names, left_out = _tuned_names(study, trials)
    trials = {arm: runs for arm, runs in trials.items() if any(_is_tuned(runs, name) for name in names)}
    if not trials:
        return None
    drawn, grid = panel_grid(len(trials) * len(names), len(names), 1.3, rest_in=1.4, sharey=True, sharex="col")
    for column, name in zip(grid.T, names, strict=True):
        values = [value for runs in trials.values() for value in runs[name].dropna()]
        choices = [] if all(map(_is_number, values)) else sorted(set(map(_choice, values)))
        for ax, runs in zip(column, trials.values(), strict=True):
            if _is_tuned(runs, name):
                _draw_marks(ax, runs, _places(runs[name], choices))
            else:
                style.add_note(ax, "not tuned")
                ax.grid(visible=False)
                ax.spines[:].set_visible(False)
        _set_scale(column[-1], values, choices, any(_is_log(study.arms[arm], name) for arm in trials))
        column[-1].set_xlabel(parameter_label(name, 22))
    for ax, arm in zip(grid[:, 0], trials, strict=True):
        ax.set_title(arm_label(study, arm, _LABEL), fontsize=7.5)
    return _finished(drawn, study, trials, "What was tried, and how it went", note, left_out)


@figure(
    "tuning_budget",
    "The best validation accuracy to expect after so many trials of a random search. Where two lines cross, which "
    "variant is better depends on how much one is willing to tune. A trial that was stopped counts with the accuracy "
    "it had; bands are 95 % intervals, too narrow towards the right end.",
)
def tuning_budgets(findings: Findings) -> Figure | None:
    """A panel a pose, a line a variant. None for a study whose trials are not independent draws of a random search."""
    study = findings.study
    if study.sampler != "random":
        return None
    scores = {arm: score_N for arm in range(len(study.arms)) if len(score_N := _scores(study, arm)) >= 3}
    if not scores:
        return None
    arms, note = selected(study, scores, most=12)
    of_pose = grouped(arms, lambda arm: study.arms[arm].pose)
    styles = style.variant_styles([study.arms[arm].variant for arm in arms])
    drawn, grid = panel_grid(len(of_pose), 2, 2.2, rest_in=1.6, legend_in=0.08 * len(styles), sharey=True)
    for ax, (pose, of_arms) in zip(grid.flat, of_pose.items(), strict=False):
        for arm in of_arms:
            budget = tuning_budget(100 * scores[arm])
            number_N = np.arange(1, len(budget.best_N) + 1)
            line = styles[study.arms[arm].variant]
            ax.fill_between(number_N, budget.low_N, budget.high_N, color=line.color, alpha=0.12, linewidth=0)
            ax.plot(number_N, budget.best_N, markevery=max(1, len(number_N) // 6), **line._asdict())
        if has_poses(study):
            ax.set_title(f"pose {style.shortened(pose)}")
        ax.set_xlabel("random trials")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    style.clip(grid[0, 0])
    drawn.supylabel("best validation accuracy to expect, %")
    handles = [Line2D([], [], label=style.wrapped_name(name, 34), **line._asdict()) for name, line in styles.items()]
    band = Patch(color=style.MUTED, alpha=0.2, linewidth=0, label="95 % interval")
    return style.finished(drawn, study, [*handles, band], "What more tuning brings", note)


@figure(
    "importance",
    "How much of the difference between a variant's trials each hyper-parameter decided, in per cent of the row; the "
    "method that says so stands in the title. With few trials the shares are rough.",
)
def importance(findings: Findings) -> Figure | None:
    """A row a variant, a column a hyper-parameter; its share as a number and as a bar."""
    study, importances = findings.study, findings.importances
    if importances is None:
        return None
    by_arm = {i: importances.by_arm.get((arm.pose, arm.variant)) for i, arm in enumerate(study.arms)}
    shares = {arm: share for arm, share in by_arm.items() if share}
    if not shares:
        return None
    arms, note = selected(study, shares, most=12)
    columns = _columns([shares[arm] for arm in arms])
    drawn = Figure(figsize=(style.WIDTH_IN, 1.2 + 0.34 * len(arms)))
    axes = drawn.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for ax, (label, names) in zip(axes, columns.items(), strict=True):
        for y, arm in enumerate(arms):
            tuned = [share for name, share in shares[arm].items() if name in names]
            value = sum(tuned) if tuned or len(names) > 1 else np.nan
            if np.isnan(value):
                ax.text(3, y, "not tuned", va="center", fontsize=7, color=style.MUTED, style="italic")
                continue
            ax.barh(y, 100 * value, height=0.62, color=style.MAIN)
            inside = value > 0.6
            ax.text(
                100 * value + (-3 if inside else 3), y, f"{100 * value:.0f}", va="center",
                ha="right" if inside else "left", fontsize=7, color=style.ON_DARK if inside else "black",
            )  # fmt: skip
        ax.set_xlim(0, 100)
        ax.set_xticks([0, 50, 100])
        ax.set_title(parameter_label(label, 15), fontsize=7.5)
        ax.grid(visible=False, axis="y")
        ax.spines[["right", "top"]].set_visible(False)
    axes[0].set_yticks(range(len(arms)), [arm_label(study, arm, 30) for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    drawn.supxlabel("share of the importance, %")
    evaluator = style.shortened(importances.evaluator, 60)
    return style.finished(drawn, study, [], f"What decided the validation accuracy: importance by {evaluator}", note)


def _selected_trials(study: Study, most: int) -> tuple[_Trials, str]:
    runs = study.runs[(study.runs["stage"] == "trial") & (study.runs["status"] != "missing")]
    trials: _Trials = {}
    for group, rows in runs.groupby("arm", sort=True):
        arm = int(str(group))
        rows = rows.assign(
            number=_numbers(rows, study.arms[arm].trials),
            percent=100 * rows["val_accuracy"],
            is_winner=rows["key"].isin(study.arms[arm].winners),
        )
        if rows["percent"].notna().any() and len(rows) > 1:
            trials[arm] = rows
    if max((int((rows["status"] == "completed").sum()) for rows in trials.values()), default=0) < _LEAST_TRIALS:
        return {}, ""
    arms, note = selected(study, trials, most)
    return {arm: trials[arm] for arm in arms}, note


def _numbers(runs: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[int]":
    """Which of its tuning's trials each run is, from 1: those with one seed belong together."""
    place = runs["key"].map({key: i for i, key in enumerate(keys)})
    first = place.groupby(runs["seed"]).transform("min").where(runs["seed"] < runs["seed"].max(), 0)
    return (1 + place - first).astype(int)


def _tuned_names(study: Study, trials: _Trials) -> tuple[list[str], str]:
    """The hyper-parameters of which most variants tried several values, and a line on those that have no room."""
    owners = tuple(f"{owner}." for owner in HYPER_PARAMETERS)
    counts = {
        name: sum(_is_tuned(runs, name) for runs in trials.values())
        for name in map(str, study.runs)
        if name.startswith(owners)
    }
    tuned = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    most = f"the {_MOST_SLICES} hyper-parameters that most variants tuned, of {len(tuned)}"
    return tuned[:_MOST_SLICES], most if len(tuned) > _MOST_SLICES else ""


def _is_tuned(runs: pd.DataFrame, name: str) -> bool:
    return int(runs[name].nunique()) > 1


def _places(values: "pd.Series[Any]", choices: list[str]) -> Floats:
    """Where the values are on their axis, (T,); NaN where there is none."""
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
    """Scale and ticks for a column of panels, which share them."""
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
        ticks = [tick for decade in decades for digit in digits if low <= (tick := digit * 10.0**decade) <= high]
        if len(ticks) <= 4:
            return ticks if len(ticks) > 1 else [low, high]
    return ticks[:: -(-len(ticks) // 4)]


def _draw_marks(ax: Axes, runs: pd.DataFrame, x_T: Floats) -> None:
    """Trials without a score stand at the foot of the panel."""
    percent_T = runs["percent"].to_numpy(dtype=np.float64)
    for status, mark in _MARKS.items():
        is_status_T = (runs["status"] == status).to_numpy()
        scored_T, lost_T = is_status_T & ~np.isnan(percent_T), is_status_T & np.isnan(percent_T)
        ax.plot(x_T[scored_T], percent_T[scored_T], linestyle="", zorder=3, clip_on=False, in_layout=False, **mark)
        ax.plot(x_T[lost_T], np.full(lost_T.sum(), 0.04), linestyle="", transform=ax.get_xaxis_transform(), **mark)
    is_winner_T = runs["is_winner"].to_numpy()
    ax.plot(x_T[is_winner_T], percent_T[is_winner_T], zorder=4, clip_on=False, **_WINNER)
    ax.margins(x=0.08, y=0.12)


def _finished(drawn: Figure, study: Study, trials: _Trials, *title: str, handles: Sequence[Artist] = ()) -> Figure:
    """Adds the axis of accuracies, the title and the legend. handles: what the legend names before the marks."""
    style.clip(drawn.axes[0])
    drawn.supylabel("validation accuracy, %")
    statuses = {status for runs in trials.values() for status in runs["status"]}
    marks = [
        Line2D([], [], linestyle="", label=status, **mark) for status, mark in _MARKS.items() if status in statuses
    ]
    legend = [*handles, *marks, Line2D([], [], label="chosen", **_WINNER)]
    return style.finished(drawn, study, legend, *title, most_columns=6)


def _scores(study: Study, arm: int) -> Floats:
    """The scores, fractions, of the trials that are draws: the first is the default setting.

    A trial that was stopped counts with its last validation accuracy, 0 where it had none: had it gone on it would
    hardly have been the best. One that failed is the machine's fault and says nothing.
    """
    runs = study.runs[(study.runs["arm"] == arm) & study.runs["key"].isin(study.arms[arm].trials[1:])]
    runs = runs[runs["seed"] == runs["seed"].max()]  # without the best settings' repeats, whose seeds are lower
    runs = runs[runs["status"].isin(("completed", "pruned", "diverged"))]
    return runs["val_accuracy"].fillna(0.0).to_numpy(dtype=np.float64)


def _columns(shares: list[Mapping[str, float]]) -> dict[str, list[str]]:
    """The hyper-parameters that each column sums, by its label: one, and in the last those that have no room."""
    names = sorted(
        {name for share in shares for name in share},
        key=lambda name: (-sum(share.get(name, 0.0) for share in shares), name),
    )
    num = len(names) if len(names) <= _MOST_SHARES else _MOST_SHARES - 1
    rest = {f"{len(names) - num} others": names[num:]} if names[num:] else {}
    return {name: [name] for name in names[:num]} | rest
