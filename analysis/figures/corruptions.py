"""Which corruptions of the test images which variant withstands."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.grids import pose_panels
from analysis.figures.invariance import with_severity_0
from analysis.figures.registry import figure
from analysis.figures.selection import grouped, selected
from analysis.findings import Findings


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
    arms, note = selected(study, table.index, most=40)
    table = table.loc[arms]
    accuracies = table.to_numpy(np.float64)
    limits = float(np.nanmin(accuracies)), float(np.nanmax(accuracies))
    names = {arm: style.wrapped_name(study.arms[arm].variant, 30) for arm in arms}
    of_pose = grouped(arms, lambda arm: study.arms[arm].pose)
    heights = {
        pose: [1.9 + max(0, names[arm].count("\n") - 0.5) for arm in of_arms] for pose, of_arms in of_pose.items()
    }
    drawn, grid, ends = pose_panels(heights, 0.13, rest_in=1.5)
    for ax, ends_y, of_arms in zip(grid[:, 0], ends, of_pose.values(), strict=True):
        middles = _draw(ax, ends_y, table.loc[of_arms], limits)
        ax.set_yticks(middles, [names[arm] for arm in of_arms])
    labels = [style.shortened(name.replace("_", " "), 20) for name in table.columns.get_level_values("name")]
    grid[-1, 0].set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=40, ha="right", rotation_mode="anchor")
    return style.finished(drawn, study, [], "Accuracy on corrupted images, %", note)


def _table(robustness: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy, arms by kinds and names of corruptions; the images as they are where they were tested."""
    rows = with_severity_0(robustness)
    rows = rows[rows["kind"].isin(["geometric", "photometric"])].dropna(subset=["accuracy"])
    rows = rows.assign(kind=rows["kind"].where(rows["name"] != "none", "none"))
    table = rows.pivot_table(index="arm", columns=["kind", "name"], values="accuracy", aggfunc="mean")
    order = sorted(table.columns.to_flat_index(), key=lambda column: (column[0] != "none", *column))
    return table[order]


def _draw(ax: Axes, ends_y: list[float], table: pd.DataFrame, limits: tuple[float, float]) -> list[float]:
    """Draws a row of the table between each two y; returns their middles. limits: the accuracies of all tables."""
    low, high = limits
    ax.pcolormesh(
        np.arange(len(table.columns) + 1), ends_y, table, cmap=style.SEQUENTIAL, vmin=low, vmax=high,
        edgecolor="white", linewidth=0.8,
    )  # fmt: skip
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    kinds = table.columns.get_level_values("kind").tolist()
    for kind in dict.fromkeys(kinds):
        first, num = kinds.index(kind), kinds.count(kind)
        if first:
            ax.axvline(first, color="white", linewidth=4)
        if kind != "none":
            ax.text(first + num / 2, -0.3, kind, ha="center", va="bottom")
    middles: list[float] = ((np.array(ends_y[:-1]) + ends_y[1:]) / 2).tolist()
    for (row, column), value in np.ndenumerate(table.to_numpy(np.float64)):
        if not np.isnan(value):
            share = (value - low) / (high - low) if high > low else 1.0
            ax.text(
                column + 0.5, middles[row], f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                color=style.ON_DARK if share < 0.55 else style.ON_LIGHT,
            )  # fmt: skip
    return middles
