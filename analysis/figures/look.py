"""Where the transformers look: which part of the image their output shows.

Legend: H heads, N images, M points of the output, 2 x and y; 23 rows and columns of affine maps.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Polygon, Rectangle

from analysis.evaluations import Maps
from analysis.figures import style
from analysis.figures.grids import panel_grid
from analysis.figures.registry import figure
from analysis.figures.selection import arm_label, maps_of_arms
from analysis.findings import Findings
from analysis.statistics import Floats

_COLUMNS, _MOST_IMAGES, _OUTLINES = 4, 160, 12
_EDGE, _BINS, _POINTS = 1.6, 48, 90
"""How far panels reach in the image's half widths, cells a side, and points of each output a side: 3 x 3 a cell of an
untouched image, so that it has the same density everywhere."""

_CORNERS_M2 = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
_COLORS = "Blues"  # from white, so that outlines show and little ink is spent
_FRAME: dict[str, Any] = {"edgecolor": "0.15", "linestyle": (0, (3, 2)), "linewidth": 1.3}
_OUTLINE: dict[str, Any] = {"edgecolor": style.COLORS[1], "linewidth": 0.8}


@figure(
    "look",
    "Where each variant's transformer looks. The dashed square is the image; outlines show what is seen of single "
    "images, and the darker a place, the more of the output it fills: an untouched image has 1 everywhere.",
)
def look(findings: Findings) -> Figure | None:
    """A panel a variant: outlines of what is seen of some images, over the density of what is seen of all."""
    maps_of_arm, note = maps_of_arms(findings, most=12)
    if not maps_of_arm:
        return None
    panel_in = min(2.6, (style.WIDTH_IN - 0.7) / min(len(maps_of_arm), _COLUMNS))
    drawn, grid = panel_grid(len(maps_of_arm), _COLUMNS, panel_in + 0.35, rest_in=1.2)
    for ax, (arm, maps) in zip(grid.flat, maps_of_arm.items(), strict=False):
        ax.set_axis_off()
        image = _draw(ax, maps)
        ax.set_title(arm_label(findings.study, arm, 24), fontsize=7.5)
    shrink = min(1.0, 1.6 / len(grid))
    bar = drawn.colorbar(image, ax=grid, location="right", extend="max", aspect=30, shrink=shrink, pad=0.02)
    bar.set_label("how much of the output shows a place")
    legend = [
        Patch(facecolor="none", label=label, **edge)
        for label, edge in (("the image", _FRAME), ("what is seen of single images", _OUTLINE))
    ]
    return style.finished(drawn, findings.study, legend, "Where the transformers look", note)


def _draw(ax: Axes, runs: list[Maps]) -> AxesImage:
    step = -(-sum(len(maps.true_theta_N23) for maps in runs) // _MOST_IMAGES)
    # Runs have the same images: each shows others.
    thetas = [_in_image(maps.theta_HN23[:, i % step :: step].astype(np.float64)) for i, maps in enumerate(runs)]
    density = _density(np.concatenate([theta_HN23.reshape(-1, 2, 3) for theta_HN23 in thetas]))
    extent = (-_EDGE, _EDGE, _EDGE, -_EDGE)
    image = ax.imshow(density, extent=extent, vmin=0, vmax=3, cmap=_COLORS, interpolation="bilinear")
    for theta_HN23 in thetas:
        shown = np.linspace(0, theta_HN23.shape[1] - 1, max(1, _OUTLINES // len(thetas))).astype(int)
        for head, theta_N23 in enumerate(theta_HN23):
            for corner_M2 in _apply(theta_N23[shown], _CORNERS_M2):
                ax.add_patch(Polygon(corner_M2, fill=False, linestyle=style.DASHES[head % 4], **_OUTLINE))
    ax.add_patch(Rectangle((-1, -1), 2, 2, fill=False, **_FRAME | {"edgecolor": style.ON_LIGHT}))
    if density.sum() < 0.05 * (_BINS / _EDGE) ** 2:
        style.add_note(ax, "looks elsewhere")
    ax.set_xlim(-_EDGE, _EDGE)
    ax.set_ylim(_EDGE, -_EDGE)
    return image


def _in_image(theta_HN23: Floats) -> Floats:
    """Maps of several heads, which are relative to their tiles of the image, as maps to the image itself.

    The tiles are in the most square arrangement that their number has, row by row: 4 are 2 by 2.
    """
    heads = len(theta_HN23)
    rows = max(row for row in range(1, int(heads**0.5) + 1) if heads % row == 0)
    size_2 = np.array([rows / heads, 1 / rows])
    row_H, column_H = np.divmod(np.arange(heads), heads // rows)
    centre_H2 = (2 * np.stack([column_H, row_H], axis=1) + 1) * size_2 - 1
    theta_HN23 = theta_HN23 * size_2[:, None]
    theta_HN23[:, :, :, 2] += centre_H2[:, None]
    return theta_HN23


def _apply(theta_N23: Floats, point_M2: Floats) -> Floats:
    """Where the maps send the points, (N, M, 2)."""
    return np.asarray(point_M2 @ theta_N23[:, :, :2].swapaxes(1, 2) + theta_N23[:, None, :, 2])


def _density(theta_N23: Floats) -> Floats:
    """How often the outputs show each cell of the panel, rows down; 1 where the identity would have it."""
    side = (2 * np.arange(_POINTS) + 1) / _POINTS - 1
    point_M2 = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    seen_X2 = _apply(theta_N23, point_M2).reshape(-1, 2)
    column_X, row_X = np.floor((seen_X2.T / _EDGE + 1) / 2 * _BINS)
    is_shown_X = (column_X >= 0) & (column_X < _BINS) & (row_X >= 0) & (row_X < _BINS)
    cell_X = (row_X * _BINS + column_X)[is_shown_X].astype(np.int64)
    count = np.bincount(cell_X, minlength=_BINS**2).reshape(_BINS, _BINS)
    of_identity = len(seen_X2) * (_EDGE / _BINS) ** 2  # in a cell
    return np.asarray(count / of_identity)
