"""The claims of a study as a forest plot: how large each difference is, how sure that is, and what follows."""

import math
from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.claims import ClaimResult
from analysis.figures import figure, narrow
from analysis.figures.style import (
    COLORS,
    COLUMN_IN,
    MUTED,
    REFERENCE,
    WIDTH_IN,
    add_legend,
    add_title,
    shortened,
    wrapped_name,
)
from analysis.findings import Findings
from analysis.means import Mean, percent_text
from analysis.tables.claims import decision_words
from analysis.wording import p_text, plain_points, size_text
from ledger.wording import count

MAX_CLAIMS = 60
_MAX_NAME = 28
_SPACE = 0.675
"""Between the intervals of a claim, in lines of text."""

_INTERVALS = 3.2
"""Lines of text that the intervals of a claim take where its words are above them."""

_T, _BCA, _IMAGES, _BAND = COLORS[0], COLORS[1], COLORS[2], "0.9"
_OPEN = "not decided"
_WORDS = {
    "better": "better",
    "worse": "worse",
    "negligible": "differs, by less than matters",
    "equivalent": "equivalent",
}
_MARKERS = {"better": ">", "worse": "<", "negligible": "D", "equivalent": "s"}
"""Of what is decided; all else is an open circle."""

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
def forest_figure(findings: Findings) -> Figure | None:
    """The claims, a panel a pose; None for a study without claims."""
    fig = _forest(findings, is_narrow=False)
    if fig is not None:
        more = len(findings.claims) > MAX_CLAIMS
        note = f"\nthe first {MAX_CLAIMS} of {len(findings.claims)} claims" if more else ""
        size = size_text(findings.study)
        holds = f"\ntrained on {size}" if size else ""
        add_title(fig, findings.study, f"Differences, and what they decide{note}{holds}")
    return fig


@narrow("forest")
def narrow_forest(findings: Findings) -> Figure | None:
    """The same with the words on each claim above its intervals; its title is the page's."""
    return _forest(findings, is_narrow=True)


def _forest(findings: Findings, *, is_narrow: bool) -> Figure | None:
    results, margin = findings.claims[:MAX_CLAIMS], findings.study.claims.margin
    if not results:
        return None
    of_pose: dict[str, list[ClaimResult]] = {}
    for result in results:
        of_pose.setdefault(result.claim.pose, []).append(result)
    heights = [sum(_height(result, is_narrow) for result in of_pose[pose]) for pose in of_pose]
    width_in = COLUMN_IN if is_narrow else WIDTH_IN
    fig = Figure(figsize=(width_in, 1.3 + 0.14 * sum(heights) + 0.3 * len(heights)))
    axes = fig.subplots(len(heights), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (pose, shown) in zip(axes, of_pose.items(), strict=True):
        _draw(ax, shown, margin, is_narrow=is_narrow)
        if len(of_pose) > 1:
            ax.set_title(f"pose {shortened(pose)}")
    axes[-1].set_xlim(_limits(results, margin))
    axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes[-1].set_xlabel("difference in test accuracy, percentage points")
    add_legend(fig, _legend(results, margin))
    return fig


def claim_label(result: ClaimResult) -> str:
    """`stn_affine over cnn`, on a line or more."""
    claim = result.claim
    variant, baseline = wrapped_name(claim.variant, _MAX_NAME), wrapped_name(claim.baseline, _MAX_NAME)
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
    """In lines of text, with some space."""
    num_lines = 1 + claim_label(result).count("\n")
    return num_lines + 2 + _INTERVALS if is_narrow else max(2, num_lines) + 1.0


def _draw(ax: Axes, results: list[ClaimResult], margin: float, *, is_narrow: bool) -> None:
    ends_y = np.cumsum([0.0, *(_height(result, is_narrow) for result in results)])
    middle_y = ends_y[1:] - _INTERVALS / 2 if is_narrow else (ends_y[:-1] + ends_y[1:]) / 2
    ax.axvspan(-100 * margin, 100 * margin, color=_BAND, linewidth=0, zorder=0)
    ax.axvline(0, color=REFERENCE, linewidth=0.8, zorder=1)
    for y, result in zip(middle_y.tolist(), results, strict=True):
        if result.difference.num:
            _draw_claim(ax, y, result)
    ax.set_ylim(ends_y[-1], 0)
    ax.set_yticks(middle_y, ["" if is_narrow else claim_label(result) for result in results])
    for y, top, result in zip(middle_y.tolist(), ends_y.tolist(), results, strict=False):
        if is_narrow:
            text = f"{claim_label(result)}\n{_words(result, margin)}"
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0}
            ax.text(0, top + 0.2, text, transform=ax.get_yaxis_transform(), va="top", fontsize=7, bbox=box)
        else:
            ax.text(1.02, y, _words(result, margin), transform=ax.get_yaxis_transform(), va="center", fontsize=7)
    ax.tick_params(left=False)
    ax.grid(visible=False, axis="y")
    sns.despine(ax=ax, left=True)


def _limits(results: Sequence[ClaimResult], margin: float) -> tuple[float, float]:
    """Of the panels, in points: intervals of two or three seeds may run out of them, that the others can be read."""
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
    mean: Mean = result.difference
    value, half = 100 * mean.value, 100 * mean.half_width
    color = MUTED if result.decision in _GREY else _T
    colors = (MUTED, MUTED) if color == MUTED else (_BCA, _IMAGES)
    others = [(result.bca, colors[0], "-"), (result.images, colors[1], "--")]
    others = [other for other in others if not math.isnan(other[0][0])]
    y -= _SPACE * len(others) / 2  # all of them together around the label
    if not math.isnan(half):
        ax.plot([value - half, value + half], [y] * 2, color=color, linewidth=2.2, solid_capstyle="butt", zorder=3)
    for i, ((low, high), own, dashes) in enumerate(others, start=1):
        ax.plot(
            [100 * low, 100 * high], [y + _SPACE * i] * 2, color=own, linestyle=dashes, linewidth=1.1, marker="|",
            markersize=4, zorder=2,
        )  # fmt: skip
    ax.plot(
        [value], [y], _MARKERS.get(result.decision, "o"), color=color, markersize=5.5,
        markerfacecolor=color if result.decision in _MARKERS else "white", zorder=4,
    )  # fmt: skip


def _legend(results: Sequence[ClaimResult], margin: float) -> list[Artist]:
    handles: list[Artist] = []
    if any(not math.isnan(result.difference.half_width) for result in results):
        handles.append(Line2D([], [], color=_T, linewidth=2.2, label="95 % t interval over seeds"))
    if any(not math.isnan(result.bca[0]) for result in results):
        handles.append(Line2D([], [], color=_BCA, linewidth=1.1, marker="|", label="95 % bootstrap (BCa) over seeds"))
    if any(not math.isnan(result.images[0]) for result in results):
        label = "95 % bootstrap over seeds and images"
        handles.append(Line2D([], [], color=_IMAGES, linewidth=1.1, linestyle="--", marker="|", label=label))
    handles.append(Patch(color=_BAND, linewidth=0, label=f"within {plain_points(margin)}: does not matter"))
    found = {result.decision for result in results if result.difference.num}
    for decision, words in _WORDS.items():
        if decision in found:
            handles.append(Line2D([], [], linestyle="", marker=_MARKERS[decision], color=_T, label=words))
    if found - _WORDS.keys():
        handles.append(Line2D([], [], linestyle="", marker="o", color=_T, markerfacecolor="white", label=_OPEN))
    return handles
