"""Which corruptions of the test images which variant withstands."""

from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import figure
from analysis.figures.invariance import with_severity_0
from analysis.figures.selection import lines, selected
from analysis.figures.style import SEQUENTIAL, WIDTH_IN, add_title, shortened, wrapped_name
from analysis.findings import Findings
from analysis.records import Study
from analysis.statistics import Floats

_MAX_VARIANTS = 40
_MAX_NAME = 30


@figure(
    "corruptions",
    "Test accuracy in per cent on corrupted images, a column a corruption: the mean over its five severities and all "
    "seeds; the first column is the same images as they are. Brighter is better.",
)
def corruptions_figure(findings: Findings) -> Figure | None:
    """A heat map a pose, variants by corruptions; None where no run was tested on corrupted images."""
    table = _table(findings.robustness)
    if table.empty:
        return None
    study = findings.study
    arms, note = selected(study, table.index, _MAX_VARIANTS)
    of_pose: dict[str, list[int]] = {}
    for arm in arms:
        of_pose.setdefault(study.arms[arm].pose, []).append(arm)
    grids = [_Grid.of(study, table.loc[of_arms]) for of_arms in of_pose.values()]
    heights = [float(grid.edges_R[-1]) for grid in grids]
    fig = Figure(figsize=(WIDTH_IN, 1.5 + 0.13 * sum(heights) + 0.3 * len(heights)))
    axes = fig.subplots(len(grids), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})[:, 0]
    shown = np.concatenate([grid.accuracy_RC for grid in grids])
    ends = float(np.nanmin(shown)), float(np.nanmax(shown))
    for ax, pose, grid in zip(axes, of_pose, grids, strict=True):
        _draw(ax, grid, ends)
        if len(of_pose) > 1:
            ax.set_title(f"pose {shortened(pose)}")
    labels = [shortened(name.replace("_", " "), 20) for name in grids[0].corruptions]
    axes[-1].set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=40, ha="right", rotation_mode="anchor")
    add_title(fig, study, lines("Accuracy on corrupted images, %", note))
    return fig


class _Grid(NamedTuple):
    """Of one pose: accuracy, variants (R) by corruptions (C), with the rows' edges in lines of text."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    corruptions: tuple[str, ...]
    accuracy_RC: Floats
    edges_R: Floats

    @classmethod
    def of(cls, study: Study, table: pd.DataFrame) -> Self:
        names = tuple(wrapped_name(study.arms[arm].variant, _MAX_NAME) for arm in table.index)
        kinds, corruptions = (tuple(table.columns.get_level_values(level)) for level in ("kind", "name"))
        edges_R = np.cumsum([0.0, *(1.9 + max(0, name.count("\n") - 0.5) for name in names)])
        return cls(names, kinds, corruptions, table.to_numpy(np.float64), edges_R)


def _table(robustness: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy, arms by kinds and names of corruptions; the images as they are where they were tested."""
    rows = with_severity_0(robustness)
    rows = rows[rows["kind"].isin(["geometric", "photometric"])].dropna(subset=["accuracy"])
    rows = rows.assign(kind=rows["kind"].where(rows["name"] != "none", "none"))
    table = rows.pivot_table(index="arm", columns=["kind", "name"], values="accuracy", aggfunc="mean")
    order = sorted(table.columns.to_flat_index(), key=lambda column: (column[0] != "none", *column))
    return table[order]


def _draw(ax: Axes, grid: _Grid, ends: tuple[float, float]) -> None:
    num_columns = len(grid.kinds)
    ax.pcolormesh(
        np.arange(num_columns + 1), grid.edges_R, grid.accuracy_RC, cmap=SEQUENTIAL, vmin=ends[0], vmax=ends[1],
        edgecolor="white", linewidth=0.8,
    )  # fmt: skip
    ax.set_ylim(grid.edges_R[-1], 0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    for kind in dict.fromkeys(grid.kinds):
        first, num = grid.kinds.index(kind), grid.kinds.count(kind)
        if first:
            ax.axvline(first, color="white", linewidth=4)
        if kind != "none":
            ax.text(first + num / 2, -0.3, kind, ha="center", va="bottom")
    middles = ((grid.edges_R[:-1] + grid.edges_R[1:]) / 2).tolist()
    ax.set_yticks(middles, grid.names)
    for (row, column), value in np.ndenumerate(grid.accuracy_RC):
        if not np.isnan(value):
            share = (value - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else 1.0
            ax.text(
                column + 0.5, middles[row], f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                color="white" if share < 0.55 else "black",
            )  # fmt: skip
