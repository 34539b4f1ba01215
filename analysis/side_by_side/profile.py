"""The performance profile: for each variant, the share of runs over all studies above each score."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.side_by_side.studies import ABOVE_K, SideBySide
from analysis.side_by_side.words import these_text

CAPTION = (
    "For each variant, the share of its final runs, over all studies that are ranked, that come above a score: 0 is as "
    "good as always naming the commonest class, 100 is all right. Whoever is further up and right gets further more "
    "often. Bands show where the share would be if the runs of each study were drawn again, in 95 % of all cases; they "
    "are no test of one variant against another."
)
MAX_SHOWN = 8
"""Variants; of more, those that rank highest."""


def profile_figure(shown: SideBySide, order: list[str], *, width_in: float = style.WIDTH_IN) -> Figure | None:
    """order: the variants to draw, the first ones where they are too many. None where there is no profile."""
    if (found := shown.profile) is None:
        return None
    variants = order[:MAX_SHOWN]
    styles = style.variant_styles(variants)
    drawn = Figure(figsize=(width_in, 3.6 if width_in > style.COLUMN_IN else 3.9))
    ax = drawn.subplots()
    handles = []
    for variant in variants:
        v, look = shown.ranked.index(variant), styles[variant]
        rows = (100 * found.share_VK[v], 100 * found.low_VK[v], 100 * found.high_VK[v])
        ax.fill_between(100 * ABOVE_K, rows[1], rows[2], step="mid", color=look.color, alpha=0.15, linewidth=0)
        line: dict[str, Any] = {"color": look.color, "linestyle": look.linestyle}
        ax.plot(100 * ABOVE_K, rows[0], drawstyle="steps-mid", **line)
        handles.append(Line2D([], [], label=style.wrapped_name(variant), **line))
    ax.set(xlim=(0, 100), ylim=(-2, 102))
    ax.set_xlabel("score, % of the way from chance to all right")
    ax.set_ylabel("runs above it, %")
    more = f"{len(variants)} of {len(order)} variants" if len(order) > len(variants) else ""
    title = f"Share of runs above a score, over {these_text(shown)}"
    if width_in > style.COLUMN_IN:
        drawn.suptitle("\n".join(filter(None, [title, more])))
    style.add_legend(drawn, handles)
    return drawn
