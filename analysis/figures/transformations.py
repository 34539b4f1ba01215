"""What the transformers of each variant do to single images: turn, zoom, shift and stretch, as distributions.

Legend: H heads, N images, R images of all heads and runs, X bins; 23 rows and columns of affine maps.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter1d

from analysis.evaluations import Maps
from analysis.figures import style, thetas
from analysis.figures.registry import figure
from analysis.figures.selection import arm_label, maps_of_arms, pose_label
from analysis.findings import Findings
from analysis.records import Study
from analysis.statistics import Floats

_BINS, _SMOOTH_BINS = 140, 1.5
_LABEL = 26
_OVERLAP = 0.9
"""Height of the highest point of a row, in rows."""


class _Quantity(NamedTuple):
    """A column. measure: from maps (R, 2, 3) to what the axis shows, 0 for the identity; limits: of the axis."""

    label: str
    measure: Callable[[Floats], Floats]
    limits: tuple[float, float]
    is_log: bool = False


def _log(measure: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    return lambda theta_R23: np.log2(np.maximum(measure(theta_R23), 1e-9))


_QUANTITIES = (
    _Quantity("turn of what is seen,\ndegrees clockwise", lambda maps: np.rad2deg(thetas.angle_rad(maps)), (-180, 180)),
    _Quantity("size of what is seen,\n1 = the whole image", _log(thetas.zoom), (-4, 4), is_log=True),
    _Quantity("distance from the centre,\n% of the width", lambda maps: 100 * thetas.shift(maps), (0, 60)),
    _Quantity("stretch, longer over\nshorter axis", _log(thetas.condition), (0, 5), is_log=True),
)


class _Row(NamedTuple):
    """A line of the figure: the maps of each run, or those that the pose asks for."""

    label: str
    maps: list[Floats]
    is_truth: bool


@figure(
    "transformations",
    "What each variant's transformer does to single test images: how common each turn, zoom, shift and stretch is. "
    "The dashed line leaves an image as it is; a spike gives every image the same; a row that looks like the grey one "
    "does what the images' pose asks for. What lies beyond an axis counts at its end.",
)
def transformations(findings: Findings) -> Figure | None:
    """A row a variant, a column a quantity: the density over all images and runs, and that of each run as a line."""
    study = findings.study
    maps_of_arm, note = maps_of_arms(findings, most=12)
    if not maps_of_arm:
        return None
    rows = _rows(study, maps_of_arm)
    drawn = Figure(figsize=(style.WIDTH_IN, 1.5 + 0.4 * len(rows)))
    axes = drawn.subplots(1, len(_QUANTITIES), sharey=True)
    for ax, quantity in zip(axes, _QUANTITIES, strict=True):
        _draw(ax, quantity, rows)
    axes[0].set_yticks(np.arange(len(rows)) - 0.3, [row.label for row in rows])
    axes[0].set_ylim(len(rows) - 0.8, -_OVERLAP - 0.15)
    handles = [
        Patch(facecolor=style.MAIN, alpha=0.35, linewidth=0, label="all runs together"),
        Line2D([], [], color=style.MAIN, linewidth=0.7, label="a single run"),
        Line2D([], [], color=style.REFERENCE, linestyle="--", linewidth=1, label="leaves the image as it is"),
    ]
    if any(row.is_truth for row in rows):
        handles.insert(0, Patch(facecolor=style.BACKGROUND, label="what the pose asks for"))
    title = "What the transformers do to single images"
    return style.finished(drawn, study, handles, title, note, most_columns=4)


def _rows(study: Study, maps_of_arm: dict[int, list[Maps]]) -> list[_Row]:
    rows: list[_Row] = []
    posed: set[str] = set()
    for arm, runs in maps_of_arm.items():
        pose = study.arms[arm].pose
        true_N23 = runs[0].true_theta_N23.astype(np.float64)
        if pose not in posed and true_N23.std(axis=0).max() > 1e-3:
            rows.append(_Row(f"{pose_label(pose, _LABEL)}\nasks for", [true_N23], is_truth=True))
        posed.add(pose)
        thetas_of_run = [maps.theta_HN23.reshape(-1, 2, 3).astype(np.float64) for maps in runs]
        rows.append(_Row(arm_label(study, arm, _LABEL), thetas_of_run, is_truth=False))
    return rows


def _draw(ax: Axes, quantity: _Quantity, rows: list[_Row]) -> None:
    """Each density as high as its row, since a spike would flatten all others."""
    values = [[quantity.measure(theta_R23) for theta_R23 in row.maps] for row in rows]
    low, high = _range(quantity, (value_R for of_row in values for value_R in of_row))
    edges = np.linspace(low, high, _BINS + 1)
    centre_X = (edges[1:] + edges[:-1]) / 2
    ax.axvline(0, color=style.REFERENCE, linestyle="--", linewidth=1, zorder=1)
    for y, (row, of_row) in enumerate(zip(rows, values, strict=True)):
        density_X = _density(np.concatenate(of_row), edges)
        color, alpha = (style.BACKGROUND, 1.0) if row.is_truth else (style.MAIN, 0.35)
        ax.fill_between(centre_X, y - _OVERLAP * density_X, y, color=color, alpha=alpha, linewidth=0, zorder=2 + y)
        for value_R in () if row.is_truth else of_row:
            ax.plot(centre_X, y - _OVERLAP * _density(value_R, edges), color=style.MAIN, linewidth=0.7, zorder=2 + y)
        ax.axhline(y, color="0.8", linewidth=0.6, zorder=2 + y)
    ax.set_xlim(low, high)
    ax.set_xlabel(quantity.label)
    if quantity.is_log:
        ax.set_xticks(*style.factor_ticks(low, high))
    else:
        steps = [1, 2, 3, 4.5, 9, 10] if high - low > 90 else [1, 2, 5, 10]
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=steps))
    ax.grid(visible=False, axis="y")
    ax.tick_params(left=False)
    ax.spines[["left", "right", "top"]].set_visible(False)


def _range(quantity: _Quantity, values: Iterable[Floats]) -> tuple[float, float]:
    """The ends of an axis: where nearly all values of every run and the identity are, at most its limits."""
    ends = [np.quantile(value_R, (0.01, 0.99)).tolist() for value_R in values]
    low, high = min(0, *(end[0] for end in ends)), max(0, *(end[1] for end in ends))
    margin = max(0.05 * (high - low), 0.02 * (quantity.limits[1] - quantity.limits[0]))
    return max(low - margin, quantity.limits[0]), min(high + margin, quantity.limits[1])


def _density(value_R: Floats, edges: Floats) -> Floats:
    """Smoothed counts over the bins with 1 as their highest; what is beyond the edges counts in the last bin."""
    # A sum with zero at a bin's border would fall to either side by its last bit.
    count_X, _ = np.histogram(np.clip(value_R, edges[0], np.nextafter(edges[-1], -np.inf)), edges)
    smooth_X = gaussian_filter1d(count_X.astype(np.float64), _SMOOTH_BINS, mode="nearest")
    return np.asarray(smooth_X / smooth_X.max())
