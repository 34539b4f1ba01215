"""Puts labels beside points so that they hide neither each other nor the points.

Legend: P places for a label, T boxes that are taken, 4 a box in pixels: left, bottom, right, top.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures.style import MUTED
from analysis.statistics import Floats


class Point(NamedTuple):
    """A point to be labelled, in data coordinates. half: the length of its error bar, up and down."""

    x: float
    y: float
    half: float
    text: str


_DISTANCES_PT = (5, 10, 17, 26, 38, 52)
_DIRECTIONS = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))
_DIAGONAL = 0.75
"""A step along both axes goes so far along each, as a share of the distance."""

_MARKER_PT = 4.0
_NEAR_PT = 10
"""Labels further away than this get a line to their point."""

_CLEAR = 2.5
"""How much further another point must be than a label's own, or the label gets a line to its own."""

_HIDDEN_PT, _ANY_HIDDEN_PT, _DOUBTFUL_PT = 200, 20, 15
"""What it costs that all of a label is hidden or outside the axes, or any of it, or that another point is as near as
its own, as if the label were so much further away."""


def place_labels(ax: Axes, points: Sequence[Point], line: Line2D, fontsize: float = 7) -> None:
    """Write each point's text beside it. Call it when the figure's layout is done: a later one would move the points.

    Each label in turn takes the nearest of some places around its point where it overlaps least with points, error
    bars, the line (of level and upright pieces), labels that stand already, and what is outside the axes. Where it is
    not plain whose it is, a thin line leads to its point.
    """
    px_per_pt = ax.figure.dpi / 72
    axes_4 = np.array(ax.get_window_extent().extents)
    taken = [box for point in points for box in _boxes(ax, point, px_per_pt)] + _pieces(line, px_per_pt)
    marks = ax.transData.transform([(point.x, point.y) for point in points])
    for i, point in enumerate(points):
        x_px, y_px = marks[i].tolist()
        label = ax.annotate(
            point.text, (point.x, point.y), xytext=(0, 0), textcoords="offset points", fontsize=fontsize,
            ha="center", va="center", zorder=4, annotation_clip=False, linespacing=1.05,
        )  # fmt: skip
        label.set_in_layout(False)
        size = label.get_window_extent()
        distance_pt_P, box_P4 = _places(x_px, y_px, size.width, size.height, px_per_pt)
        hidden_P = _overlap(box_P4, np.array(taken)).sum(axis=1)
        outside_P = 1 - _overlap(box_P4, axes_4[None])[:, 0]
        own_P = _distance(box_P4, marks[[i]])[:, 0]
        other_P = _distance(box_P4, np.delete(marks, i, axis=0)).min(axis=1, initial=np.inf)
        cost_P = distance_pt_P + _HIDDEN_PT * (hidden_P + outside_P) + _ANY_HIDDEN_PT * (hidden_P > 0)
        place = int((cost_P + _DOUBTFUL_PT * (other_P <= own_P)).argmin())
        left, bottom, right, top = box = box_P4[place].tolist()
        taken.append(box)
        middle_px = (left + right) / 2 - x_px, (bottom + top) / 2 - y_px
        label.set_position((middle_px[0] / px_per_pt, middle_px[1] / px_per_pt))
        if distance_pt_P[place] > _NEAR_PT or other_P[place] < _CLEAR * own_P[place]:
            nearest = min(max(x_px, left), right), min(max(y_px, bottom), top)
            ends_2 = ax.transData.inverted().transform([(x_px, y_px), nearest])
            (leader,) = ax.plot(*ends_2.T, color=MUTED, linewidth=0.5, zorder=1.5, scalex=False, scaley=False)
            leader.set_in_layout(False)


def _boxes(ax: Axes, point: Point, px_per_pt: float) -> Iterator[list[float]]:
    """The boxes around the marker and the error bar."""
    half = _MARKER_PT * px_per_pt
    ends = [(point.x, point.y), (point.x, point.y - point.half), (point.x, point.y + point.half)]
    (x, y), (_, low), (_, high) = ax.transData.transform(ends).tolist()
    yield [x - half, y - half, x + half, y + half]
    yield [x - half / 4, low, x + half / 4, high]


def _pieces(line: Line2D, px_per_pt: float) -> list[list[float]]:
    """The boxes around the pieces of a line of level and upright ones."""
    ends_T2 = np.asarray(line.get_transform().transform_path(line.get_path()).vertices)
    low_T2, high_T2 = np.minimum(ends_T2[:-1], ends_T2[1:]), np.maximum(ends_T2[:-1], ends_T2[1:])
    pieces: list[list[float]] = np.hstack([low_T2 - px_per_pt / 2, high_T2 + px_per_pt / 2]).tolist()
    return pieces


def _places(x_px: float, y_px: float, width: float, height: float, px_per_pt: float) -> tuple[Floats, Floats]:
    """Distances in points and boxes around a point, the nearest first."""
    distances, boxes = [], []
    for distance_pt, (right, up) in product(_DISTANCES_PT, _DIRECTIONS):
        gap = distance_pt * px_per_pt * (_DIAGONAL if right and up else 1.0)
        left = x_px + right * (gap + width / 2) - width / 2
        bottom = y_px + up * (gap + height / 2) - height / 2
        distances.append(distance_pt)
        boxes.append([left, bottom, left + width, bottom + height])
    return np.array(distances, dtype=np.float64), np.array(boxes)


def _distance(box_P4: Floats, mark_M2: Floats) -> Floats:
    """Distances from each box to each of M marks, PM."""
    nearest_PM2 = np.clip(mark_M2[None], box_P4[:, None, :2], box_P4[:, None, 2:])
    return np.asarray(np.linalg.norm(nearest_PM2 - mark_M2[None], axis=2))


def _overlap(box_P4: Floats, other_T4: Floats) -> Floats:
    """Shares of each place that each of the others covers, PT."""
    low_PT2 = np.maximum(box_P4[:, None, :2], other_T4[None, :, :2])
    high_PT2 = np.minimum(box_P4[:, None, 2:], other_T4[None, :, 2:])
    area_P1 = np.maximum(np.prod(box_P4[:, 2:] - box_P4[:, :2], axis=1), 1e-9)[:, None]
    return np.asarray(np.prod(np.maximum(high_PT2 - low_PT2, 0), axis=2) / area_P1)
