"""The share of the gap that each variant closes, over the images that it was trained on."""

import math

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.figures import figure, narrow, style
from analysis.findings import Findings
from analysis.gap import SizedShares, shares_by_size
from analysis.ladder import sizes_of

MAX_VARIANTS = 8
_COLUMNS = 2


@figure(
    "gap",
    "How much of the gap each variant closes at rising sizes of training: 0 is as good as the plain network, 100 as "
    "the one that sees images turned back by their true pose. Bars are 95 % intervals (Fieller's), and not symmetric.",
)
def gap_figure(findings: Findings) -> Figure | None:
    """A panel a pose; None for a study without a ladder, or without both ends of a gap."""
    drawn = _draw(findings, _COLUMNS, style.WIDTH_IN)
    if drawn is not None:
        variants = {row.variant for row in shares_by_size(findings.study)}
        more = f"\nthe first {MAX_VARIANTS} of {len(variants)} variants" if len(variants) > MAX_VARIANTS else ""
        style.add_title(drawn, findings.study, f"How much of the gap is closed, by size of training{more}")
    return drawn


@narrow("gap")
def narrow_gap(findings: Findings) -> Figure | None:
    """The same, a pose below the other; its title is the page's."""
    return _draw(findings, 1, style.COLUMN_IN)


def _draw(findings: Findings, most_columns: int, width_in: float) -> Figure | None:
    rows = shares_by_size(findings.study)
    if not any(math.isfinite(share.value) for row in rows for share in row.shares):
        return None
    poses = list(dict.fromkeys(row.pose for row in rows))
    variants = list(dict.fromkeys(row.variant for row in rows))[:MAX_VARIANTS]
    num_columns = min(most_columns, len(poses))
    num_rows = math.ceil(len(poses) / num_columns)
    drawn = Figure(figsize=(width_in, 1.0 + 2.4 * num_rows))
    axes = drawn.subplots(num_rows, num_columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(poses) :]:
        ax.set_axis_off()
    for ax, pose in zip(axes.flat, poses, strict=False):
        _draw_pose(ax, [row for row in rows if row.pose == pose and row.variant in variants], findings)
        ax.set_title(f"pose {style.shortened(pose, 30)}", fontsize=8)
    for row in axes:
        row[0].set_ylabel("gap closed, %")
    for ax in axes[-1]:
        ax.set_xlabel("training images x epochs")
    handles = next(ax.get_legend_handles_labels()[0] for ax in axes.flat if ax.lines)
    style.add_legend(drawn, handles, 2)
    return drawn


def _draw_pose(ax: Axes, rows: list[SizedShares], findings: Findings) -> None:
    sizes = sizes_of(findings.study)
    images_P = np.array([train_images * epochs for train_images, epochs in sizes], float)
    looks = style.variant_styles([row.variant for row in rows])
    for number, row in enumerate(rows):
        value_P, low_P, high_P = (np.array([100 * share[part] for share in row.shares]) for part in range(3))
        ends_2P = np.nan_to_num([value_P - low_P, high_P - value_P])
        at_P = images_P * 1.03 ** (number - len(rows) / 2)  # beside each other, so that bars do not hide bars
        look = looks[row.variant]
        ax.errorbar(
            at_P, value_P, ends_2P, label=style.wrapped_name(row.variant), capsize=2, elinewidth=1, **look._asdict()
        )
    for share in (0, 100):
        ax.axhline(share, color=style.REFERENCE, linewidth=0.8, zorder=1)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(images_P.tolist()))
    names = {
        float(place): f"{train_images:,}\nx {epochs}"
        for place, (train_images, epochs) in zip(images_P, sizes, strict=True)
    }
    ax.xaxis.set_major_formatter(FuncFormatter(lambda place, _: names.get(float(place), "")))
    ax.xaxis.set_minor_locator(NullLocator())
    low, high = ax.get_ylim()  # an interval of a gap that is hardly there has no end
    ax.set_ylim(max(low, -100), min(high, 200))
    sns.despine(ax=ax)
