"""What all figures share: sizes for print, fonts, colours that colour-blind readers tell apart, labels, titles.

Sizes are those on paper: a figure is WIDTH_IN wide (both columns of an article) or COLUMN_IN (one column), and no text
is smaller than 7 pt. Colour never says anything alone: a line's dashes and markers say the same.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import matplotlib
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.rcsetup import cycler

from analysis.chance import chance_line
from analysis.figures.as_delivered import quiet
from analysis.figures.fonts import FONT, drawable, families
from analysis.formats import one_line
from analysis.names import wrapped
from analysis.records import Study
from ledger.names import bare, variant_parts

WIDTH_IN, COLUMN_IN = 7.0, 3.4
COLORS: list[tuple[float, float, float]] = list(sns.color_palette("colorblind"))
Dashes = Literal["-", "--", "-.", ":"]
DASHES: tuple[Dashes, ...] = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X"

MAIN = COLORS[0]
"""The colour of means, and of whatever else a figure is about where it needs one colour only."""

SEED, MUTED, BACKGROUND, REFERENCE = "0.55", "0.45", "0.82", "0.3"
"""Greys: dots of single seeds; words and lines of what is lost; lines that stand behind; zero and other references."""

ON_DARK, ON_LIGHT = "#fffffe", "#000001"
"""White and black on colours that have a meaning: no greys, so that they stay as they are on a page in the dark."""

SEQUENTIAL, DIVERGING = "cividis", "PuOr"
"""Colour maps: from little to much, and around zero. Both keep their order for colour-blind readers."""

MAX_LABEL = 40
"""Characters to a line of a label."""

_FACTORS = (
    (0.1, 0.3, 1, 3, 10, 30), (0.25, 0.5, 1, 2, 4, 8), (0.5, 0.7, 1, 1.4, 2, 3), (0.6, 0.8, 1, 1.2, 1.5),
    (0.8, 0.9, 1, 1.1, 1.2), (0.9, 0.95, 1, 1.05, 1.1),
)  # fmt: skip
"""An axis has the ones of which it shows the most, coarse before fine."""

STYLE: dict[Any, Any] = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("paper"),
    "figure.constrained_layout.use": True,
    "font.family": [FONT],
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "figure.labelsize"), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 7),
    "figure.titlesize": 9,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.8,  # so that dashes show
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.edgecolor": "0.6",
    "axes.prop_cycle": cycler(color=COLORS),
    "image.cmap": SEQUENTIAL,
    "grid.color": "0.93",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "text.parse_math": False,  # a $ in a label is a $
    "svg.hashsalt": "stn-bench",
    "pdf.fonttype": 42,  # journals refuse Type 3 fonts
}


@contextmanager
def applied(study: Study | None = None) -> Iterator[None]:
    """Draws and saves in this style, and in no other, within it. study: whose names have to be written."""
    with quiet(), matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        if study:
            matplotlib.rcParams["font.family"] = families(study)
        yield


class LineStyle(NamedTuple):
    """How a line is drawn: `ax.plot(x, y, **style._asdict())`."""

    color: tuple[float, float, float]
    linestyle: Dashes
    marker: str


def variant_styles(variants: Sequence[str]) -> dict[str, LineStyle]:
    """By variant: a colour and a marker for each model and backbone, dashes for each policy, in order of appearance.

    With more than four policies, dashes repeat with other markers.
    """
    variants = list(dict.fromkeys(variants))
    models = list(dict.fromkeys(model_of(variant) for variant in variants))
    policies = list(dict.fromkeys(variant_parts(variant).policy for variant in variants))
    styles = {}
    for variant in variants:
        model, policy = models.index(model_of(variant)), policies.index(variant_parts(variant).policy)
        marker = model + 3 * (policy // len(DASHES))
        dashes = DASHES[policy % len(DASHES)]
        styles[variant] = LineStyle(COLORS[model % len(COLORS)], dashes, MARKERS[marker % len(MARKERS)])
    return styles


def line_styles(names: Sequence[str]) -> dict[str, LineStyle]:
    """By name, each with its own colour, dashes and marker."""
    styles = {}
    for i, name in enumerate(dict.fromkeys(names)):
        wrap, color = divmod(i, len(COLORS))
        styles[name] = LineStyle(COLORS[color], DASHES[(i + wrap) % len(DASHES)], MARKERS[i % len(MARKERS)])
    return styles


def model_of(variant: str) -> str:
    """The variant without its policy."""
    return bare(variant)


def shortened(text: str, width: int = MAX_LABEL) -> str:
    """Any text on one line, cut to `width` characters."""
    text = drawable(one_line(text))
    return text if len(text) <= width else text[: width - 1] + "…"


def wrapped_name(name: str, width: int = MAX_LABEL) -> str:
    """A variant's or policy's name on as many lines as it needs: names may differ in their last option only."""
    return wrapped(drawable(one_line(name)), width)


def finished(figure: Figure, study: Study, handles: Sequence[Artist], *title: str, most_columns: int = 3) -> Figure:
    """The figure with its title over it and one legend under it.

    handles: of the legend, whose labels are shown as they are, in at most so many columns. title: lines on what it
    shows, without empty ones; task, study and protocol follow. A narrow figure has none: the page has one.
    """
    if figure.get_figwidth() > COLUMN_IN:
        about = f"{shortened(study.task_label)} · {shortened(study.name)}, protocol {study.protocol_hash}"
        figure.suptitle("\n".join(filter(None, [*title, about])))
    add_legend(figure, handles, most_columns)
    return figure


def add_legend(figure: Figure, handles: Sequence[Artist], most_columns: int = 3) -> None:
    """One legend under the figure, if there is something to say in it."""
    if handles:
        labels = [str(handle.get_label()) for handle in handles]
        columns = _num_columns(labels, most_columns, figure.get_figwidth())
        figure.legend(handles=list(handles), labels=labels, loc="outside lower center", ncols=columns)


def legend_height_in(handles: Sequence[Artist]) -> float:
    """About how high such a legend is under a figure of WIDTH_IN."""
    labels = [str(handle.get_label()) for handle in handles]
    num_lines = sum(1 + 0.8 * label.count("\n") for label in labels)
    return 0.15 * num_lines / _num_columns(labels, 3, WIDTH_IN) + 0.1


def _num_columns(labels: Sequence[str], most: int, width_in: float) -> int:
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    fitting = int(width_in / (0.45 + 0.062 * longest))  # inches for the line and for a character
    return max(1, min(most, fitting, len(labels)))


def clip(ax: Axes, which: Literal["x", "y"] = "y", low: float = 0, high: float = 100) -> None:
    """Ends that axis there at the latest; accuracies in per cent at 0 and 100: no interval reaches further."""
    ends = getattr(ax, f"get_{which}lim")()
    ax.set(**{f"{which}lim": (max(ends[0], low), min(ends[1], high))})


def add_chance(axes: Iterable[Axes], study: Study, which: Literal["x", "y"] = "y") -> list[Line2D]:
    """A line in each panel of accuracies where an answer without a look would be, if the panel reaches it.

    Returns what the legend says of it; nothing where the classes are not known.
    """
    found = chance_line(study)
    if found is None:
        return []
    words, share = found[0], 100 * found[1]
    look: dict[str, Any] = {"color": MUTED, "linestyle": ":", "linewidth": 1.0, "zorder": 1}
    for ax in axes:
        limits = getattr(ax, f"get_{which}lim")()
        (ax.axvline if which == "x" else ax.axhline)(share, **look)
        ax.set(**{f"{which}lim": limits})
    return [Line2D([], [], **look, label=f"{words}: {share:.1f} %")]


def factor_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Places and labels of round factors on an axis of their logarithms to base 2, at least a fifth of it apart."""

    def fits(factors: Sequence[float]) -> bool:
        return all(math.log2(b / a) >= 0.2 * (high - low) for a, b in pairwise(factors))

    inside = [[factor for factor in grid if low <= math.log2(factor) <= high] for grid in _FACTORS]
    factors = max(filter(fits, inside), key=len, default=[])
    if len(factors) < 2:
        factors = [2**low, 2**high]
    return [math.log2(factor) for factor in factors], [f"{factor:.3g}" for factor in factors]


def add_note(ax: Axes, text: str, y: float | None = None) -> None:
    """Words in place of data: in the middle of the panel, or of its line at the data's y."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": MUTED, "fontsize": 7.5}
    look |= {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
    if y is None:
        ax.text(0.5, 0.5, text, transform=ax.transAxes, **look)
    else:
        ax.text(0.5, y, text, transform=ax.get_yaxis_transform(), **look)
