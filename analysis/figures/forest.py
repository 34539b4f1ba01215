"""The claims of a study as a forest plot: how large each difference is, how sure that is, and what follows."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.claims import ClaimResult
from analysis.figures import style
from analysis.figures.grids import pose_panels
from analysis.figures.registry import NARROW, figure
from analysis.figures.selection import first, grouped
from analysis.findings import Findings
from analysis.means import percent_text
from analysis.tables.claims import decision_words
from analysis.wording import p_text, plain_points, size_text
from ledger.wording import count

_MAX_NAME = 28
_SPACE = 0.675
"""Between the intervals of a claim, in lines of text."""

_INTERVALS = 3.2
"""Lines of text that the intervals of a claim take where its words are above them."""

_BAND = "0.9"
_T: dict[str, Any] = {"color": style.COLORS[0], "linewidth": 2.2}
_BCA: dict[str, Any] = {"color": style.COLORS[1], "linewidth": 1.1, "marker": "|"}
_IMAGES: dict[str, Any] = {"color": style.COLORS[2], "linewidth": 1.1, "linestyle": "--", "marker": "|"}
_DECIDED = {
    "better": (">", "better"),
    "worse": ("<", "worse"),
    "negligible": ("D", "differs, by less than matters"),
    "equivalent": ("s", "equivalent"),
}
"""The marker of each decision, and what the legend says; all others are an open circle."""

_GREY = ("behind", "idle", "unripe")
"""Decisions that are drawn in grey: their intervals mislead."""


@figure(
    "forest",
    "What the study set out to find: one line a comparison, the difference in test accuracy of the first variant to "
    "the second, with 95 % intervals; with few seeds the bootstrap over seeds alone is too narrow and shows no more "
    "than the skew. Right of zero the first is better; in the grey band the difference is too small to matter. The "
    "words at each line say what follows by the "
    "exact sign-flip test, corrected for the number of comparisons (Holm): few seeds cannot pass it, however clear "
    "their intervals look. What is grey was trained too short to tell, or is of a transformer that did not learn to "
    "look, whatever its intervals. How many seeds could decide a claim supposes that what was seen is the truth.",
)
def forest_figure(findings: Findings, *, width_in: float = style.WIDTH_IN) -> Figure | None:
    """The claims, a panel a pose; None for a study without claims.

    In a narrow figure the words on each claim stand above its intervals.
    """
    (results, note), margin = first(findings.claims, 60, "claims"), findings.study.claims.margin
    if not results:
        return None
    is_narrow = width_in < style.WIDTH_IN
    of_pose = grouped(results, lambda result: result.claim.pose)
    heights = {pose: [_height(result, is_narrow) for result in of_claims] for pose, of_claims in of_pose.items()}
    drawn, grid, ends = pose_panels(heights, 0.14, rest_in=1.3, width_in=width_in)
    for ax, of_claims, ends_y in zip(grid[:, 0], of_pose.values(), ends, strict=True):
        _draw(ax, of_claims, ends_y, margin, is_narrow=is_narrow)
    lowest = grid[-1, 0]
    lowest.set_xlim(_limits(results, margin))
    lowest.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    lowest.set_xlabel("difference in test accuracy, percentage points")
    size = size_text(findings.study)
    title = "Differences, and what they decide", note, f"trained on {size}" if size else ""
    return style.finished(drawn, findings.study, _legend(results, margin), *title)


NARROW["forest"] = partial(forest_figure, width_in=style.COLUMN_IN)


def claim_label(result: ClaimResult) -> str:
    """`stn_affine over cnn`, on a line or more."""
    claim = result.claim
    variant, baseline = (style.wrapped_name(name, _MAX_NAME) for name in (claim.variant, claim.baseline))
    joint = " " if len(variant) + len(baseline) + 6 <= _MAX_NAME else "\n"
    label = f"{variant}{joint}over {baseline}"
    return f"{label},\nminus the same without policies" if claim.interaction else label


def decision_text(result: ClaimResult, margin: float) -> str:
    """What follows, in a few words."""
    p = p_text("Holm p", result.p_holm)
    if result.decision in ("better", "worse"):
        word = {"better": "more", "worse": "less"}[result.decision] if result.claim.interaction else result.decision
        return f"{word}, {p}"
    if result.decision == "equivalent":
        return f"equivalent within {plain_points(margin)}, {p_text('p', result.p_equivalent)}"
    if result.decision in _GREY:
        return decision_words(result)
    if result.decision == "negligible":
        return f"differs by less than {plain_points(margin)}, {p}"
    if result.decision == "undecided" and result.why:
        return f"cannot tell yet: {result.why}".replace(", ", ",\n")
    if result.decision == "undecided":
        could = f"; {count(result.seeds_needed, 'seed')} could" if result.seeds_needed else f", {p}"
        return f"cannot tell yet{could}"
    return "not tested: one pair of runs" if result.difference.num == 1 else "not tested: no pair of completed runs"


def _height(result: ClaimResult, is_narrow: bool) -> float:
    """The height of a claim in lines of text, with some space."""
    num_lines = 1 + claim_label(result).count("\n")
    return num_lines + 2 + _INTERVALS if is_narrow else max(2, num_lines) + 1.0


def _draw(ax: Axes, results: list[ClaimResult], ends_y: list[float], margin: float, *, is_narrow: bool) -> None:
    ax.axvspan(-100 * margin, 100 * margin, color=_BAND, linewidth=0, zorder=0)
    ax.axvline(0, color=style.REFERENCE, linewidth=0.8, zorder=1)
    middles = []
    for result, top, bottom in zip(results, ends_y, ends_y[1:], strict=False):
        middles.append(bottom - _INTERVALS / 2 if is_narrow else (top + bottom) / 2)
        if result.difference.num:
            _draw_claim(ax, middles[-1], result)
    ax.set_yticks(middles, ["" if is_narrow else claim_label(result) for result in results])
    for result, top, middle in zip(results, ends_y, middles, strict=False):
        look: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 7}
        if is_narrow:
            text = f"{claim_label(result)}\n{_words(result, margin)}"
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0}
            ax.text(0, top + 0.2, text, va="top", bbox=box, **look)
        else:
            ax.text(1.02, middle, _words(result, margin), va="center", **look)
    ax.tick_params(left=False)
    sns.despine(ax=ax, left=True)


def _limits(results: Sequence[ClaimResult], margin: float) -> tuple[float, float]:
    """The panels' ends, in points; intervals of two or three seeds may run out of them, that others can be read."""
    tested = [result for result in results if result.difference.num]
    ends = [end for result in tested for end in (result.difference.value, *result.bca, *result.images)]
    ends = [-1.3 * margin, 1.3 * margin, *(end for end in ends if not math.isnan(end))]
    most = 1.5 * (max(ends) - min(ends))
    for result in tested:
        mean = result.difference
        if not math.isnan(mean.half_width):
            half = min(mean.half_width, most)
            ends += [mean.value - half, mean.value + half]
    low, high = min(ends), max(ends)
    space = 0.03 * (high - low) or 0.01
    return max(100 * (low - space), -100.0), min(100 * (high + space), 100.0)


def _words(result: ClaimResult, margin: float) -> str:
    if not result.difference.num:
        return decision_text(result, margin)
    size = percent_text(result.difference, signed=True, dash=True)
    return f"{size}  ({count(result.difference.num, 'seed')})\n{decision_text(result, margin)}"


def _draw_claim(ax: Axes, y: float, result: ClaimResult) -> None:
    is_grey = result.decision in _GREY
    grey = {"color": style.MUTED} if is_grey else {}
    value, half = 100 * result.difference.value, 100 * result.difference.half_width
    others = [(ends, look) for ends, look in ((result.bca, _BCA), (result.images, _IMAGES)) if not math.isnan(ends[0])]
    y -= _SPACE * len(others) / 2  # all of them together around the label
    if not math.isnan(half):
        ax.plot([value - half, value + half], [y] * 2, solid_capstyle="butt", zorder=3, **_T | grey)
    for i, ((low, high), look) in enumerate(others, start=1):
        ax.plot([100 * low, 100 * high], [y + _SPACE * i] * 2, markersize=4, zorder=2, **look | grey)
    marker, _ = _DECIDED.get(result.decision, ("o", ""))
    color = style.MUTED if is_grey else style.COLORS[0]
    fill = color if result.decision in _DECIDED else "white"
    ax.plot([value], [y], marker, color=color, markersize=5.5, markerfacecolor=fill, zorder=4)


def _legend(results: Sequence[ClaimResult], margin: float) -> list[Artist]:
    handles: list[Artist] = []
    decisions = {result.decision for result in results if result.difference.num}
    grey = {"color": style.MUTED} if decisions <= {*_GREY} else {}  # where nothing is in colour
    for look, label, ends in (
        (_T, "95 % t interval over seeds", [result.difference.half_width for result in results]),
        (_BCA, "95 % bootstrap (BCa) over seeds", [result.bca[0] for result in results]),
        (_IMAGES, "95 % bootstrap over seeds and images", [result.images[0] for result in results]),
    ):
        if not np.isnan(ends).all():
            handles.append(Line2D([], [], label=label, **look | grey))
    handles.append(Patch(color=_BAND, linewidth=0, label=f"within {plain_points(margin)}: does not matter"))
    mark: dict[str, Any] = {"color": style.COLORS[0], "linestyle": ""} | grey
    for decision, (marker, label) in _DECIDED.items():
        if decision in decisions:
            handles.append(Line2D([], [], marker=marker, label=label, **mark))
    if decisions - _DECIDED.keys():
        handles.append(Line2D([], [], marker="o", markerfacecolor="white", label="not decided", **mark))
    return handles
