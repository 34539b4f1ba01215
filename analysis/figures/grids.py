"""Figures of many panels: in a grid, or one a pose, each as high as its lines of text."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from analysis.figures.style import WIDTH_IN, shortened

Grid = npt.NDArray[Any]
"""Axes, rows by columns."""


def panel_grid(
    num: int, most_columns: int, height_in: float, *, rest_in: float, legend_in: float = 0, width_in: float = WIDTH_IN,
    **share: Any,
) -> tuple[Figure, Grid]:  # fmt: skip
    """A figure of so many panels, row by row; the places that are left over are empty.

    height_in: of a row. rest_in, legend_in: heights of what is around the rows. share: as in Figure.subplots.
    """
    columns = max(1, min(num, most_columns))
    rows = -(-num // columns)
    figure = Figure(figsize=(width_in, rest_in + height_in * rows + legend_in))
    grid = figure.subplots(rows, columns, squeeze=False, **share)
    for ax in grid.flat[num:]:
        ax.set_axis_off()
    return figure, grid


def label_below(grid: Grid, *labels: str) -> None:
    """Says below the lowest panel of each column what runs along it: with a label for all columns, or one for each."""
    for i, column in enumerate(grid.T):
        lowest = [ax for ax in column if ax.axison][-1]
        lowest.set_xlabel(labels[i % len(labels)])
        lowest.tick_params(labelbottom=True)


def pose_panels(
    heights: Mapping[str, Iterable[float]], line_in: float, *, rest_in: float, columns: int = 1,
    width_in: float = WIDTH_IN,
) -> tuple[Figure, Grid, list[list[float]]]:  # fmt: skip
    """A figure with a row of panels a pose, in which things stand one below the other.

    heights: by pose, of each thing, in lines of text of line_in. rest_in: height of all that is around the rows.
    Returns, too, for each pose the y at which its things begin and the last ends; y is in lines of text, downwards.
    """
    ends = [np.cumsum([0.0, *of_pose]).tolist() for of_pose in heights.values()]
    totals = [of_pose[-1] for of_pose in ends]
    figure = Figure(figsize=(width_in, rest_in + line_in * sum(totals) + 0.3 * len(totals)))
    grid = figure.subplots(len(ends), columns, squeeze=False, sharex="col", gridspec_kw={"height_ratios": totals})
    for row, pose, total in zip(grid, heights, totals, strict=True):
        for ax in row:
            ax.set_ylim(total, 0)
            ax.grid(visible=False, axis="y")
        if len(heights) > 1:
            row[0].set_title(f"pose {shortened(pose)}")
    return figure, grid, ends
