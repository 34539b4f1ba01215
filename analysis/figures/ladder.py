"""The claims, and the shares of the gap, at rising sizes of training: whether a difference still changes."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator

from analysis.figures import style
from analysis.figures.grids import label_below, panel_grid
from analysis.figures.registry import NARROW, figure
from analysis.figures.selection import first, grouped
from analysis.findings import Findings
from analysis.gap import SizedShares, shares_by_size
from analysis.ladder import Climb, sizes_of, trend_text
from analysis.wording import plain_points


@figure(
    "ladder",
    "Each claim at rising sizes of training: the difference in test accuracy of the first variant to the second, with "
    "its 95 % interval over seeds, over the computation of one training, of which images, epochs or both grow. Above "
    "zero the first is better. The grey band is as wide as a difference that does not matter, around the last one: the "
    "last change is too small to matter where a test shows it to be no larger. One whose line heads for zero may not "
    "survive more training.",
)
def ladder_figure(findings: Findings, *, width_in: float = style.WIDTH_IN, most_columns: int = 3) -> Figure | None:
    """A panel a claim; None for a study without a ladder."""
    (climbs, note), margin = first(findings.climbs, 12, "claims"), findings.study.claims.margin
    if not climbs or any(math.isnan(step.train_flops) for climb in climbs for step in climb.steps):
        return None
    drawn, grid = panel_grid(len(climbs), most_columns, 2.0, rest_in=1.0, width_in=width_in, sharey=True)
    several_poses = len({climb.pose for climb in climbs}) > 1
    for ax, climb in zip(grid.flat, climbs, strict=False):
        _draw_claim(ax, climb, margin, several_poses=several_poses)
    for row in grid:
        row[0].set_ylabel("difference, points")
    label_below(grid, "FLOPs of one training")
    legend = [
        Line2D([], [], color=style.MAIN, marker="o", label="mean and 95 % t interval over seeds"),
        Patch(color="0.9", linewidth=0, label=f"within {plain_points(margin)} of the last difference"),
    ]
    return style.finished(drawn, findings.study, legend, "Does it still change with more training?", note)


NARROW["ladder"] = partial(ladder_figure, width_in=style.COLUMN_IN, most_columns=1)


@figure(
    "gap",
    "How much of the gap each variant closes at rising sizes of training: 0 is as good as the plain network, 100 as "
    "the one that sees images turned back by their true pose. Bars are 95 % intervals (Fieller's), and not symmetric.",
)
def gap_figure(findings: Findings, *, width_in: float = style.WIDTH_IN, most_columns: int = 2) -> Figure | None:
    """A panel a pose; None for a study without a ladder, or without both ends of a gap."""
    rows = shares_by_size(findings.study)
    if not any(math.isfinite(share.value) for row in rows for share in row.shares):
        return None
    variants, note = first(list(dict.fromkeys(row.variant for row in rows)), 8, "variants")
    of_pose = grouped(rows, lambda row: row.pose)
    drawn, grid = panel_grid(len(of_pose), most_columns, 2.4, rest_in=1.0, width_in=width_in, sharex=True, sharey=True)
    for ax, (pose, of_variants) in zip(grid.flat, of_pose.items(), strict=False):
        _draw_pose(ax, [row for row in of_variants if row.variant in variants], sizes_of(findings.study))
        ax.set_title(f"pose {style.shortened(pose, 30)}", fontsize=8)
    for row in grid:
        row[0].set_ylabel("gap closed, %")
    for ax in grid[-1]:
        ax.set_xlabel("training images x epochs")
    handles = next(ax.get_legend_handles_labels()[0] for ax in grid.flat if ax.lines)
    title = "How much of the gap is closed, by size of training"
    return style.finished(drawn, findings.study, handles, title, note, most_columns=2)


NARROW["gap"] = partial(gap_figure, width_in=style.COLUMN_IN, most_columns=1)


def _draw_claim(ax: Axes, climb: Climb, margin: float, *, several_poses: bool) -> None:
    flops_R = np.array([step.train_flops for step in climb.steps])
    mean_R = np.array([100 * step.difference.value for step in climb.steps])
    half_R = np.nan_to_num([100 * step.difference.half_width for step in climb.steps])
    ax.axhspan(mean_R[-1] - 100 * margin, mean_R[-1] + 100 * margin, color="0.9", linewidth=0, zorder=0)
    ax.axhline(0, color=style.REFERENCE, linewidth=0.8, zorder=1)
    ax.errorbar(flops_R, mean_R, half_R, color=style.MAIN, marker="o", capsize=2, elinewidth=1.1, zorder=3)
    ax.set_xscale("log")
    ax.margins(x=0.12)
    ax.xaxis.set_major_locator(FixedLocator(flops_R.tolist()))
    ax.xaxis.set_major_formatter(EngFormatter(places=1, sep="\N{THIN SPACE}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
    claim = climb.claim
    pose = f", pose {style.shortened(claim.pose, 12)}" if several_poses else ""
    variant, baseline = (style.wrapped_name(name, 30) for name in (claim.variant, claim.baseline))
    less = ",\nless without policies" if claim.interaction else ""
    ax.set_title(f"{variant}\nover {baseline}{pose}{less}\n{trend_text(climb)}", fontsize=7.5)
    sns.despine(ax=ax)


def _draw_pose(ax: Axes, rows: list[SizedShares], sizes: Sequence[tuple[int, int]]) -> None:
    images_P = np.array([train_images * epochs for train_images, epochs in sizes], float)
    looks = style.variant_styles([row.variant for row in rows])
    for number, row in enumerate(rows):
        value_P, low_P, high_P = (np.array([100 * share[part] for share in row.shares]) for part in range(3))
        ends_2P = np.nan_to_num([value_P - low_P, high_P - value_P])
        at_P = images_P * 1.03 ** (number - len(rows) / 2)  # beside each other, so that bars do not hide bars
        look = looks[row.variant]._asdict()
        ax.errorbar(at_P, value_P, ends_2P, label=style.wrapped_name(row.variant), capsize=2, elinewidth=1, **look)
    for share in (0, 100):
        ax.axhline(share, color=style.REFERENCE, linewidth=0.8, zorder=1)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(images_P.tolist()))
    names = {place: f"{images:,}\nx {epochs}" for place, (images, epochs) in zip(images_P.tolist(), sizes, strict=True)}
    ax.xaxis.set_major_formatter(lambda place, _: names.get(place, ""))
    ax.xaxis.set_minor_locator(NullLocator())
    style.clip(ax, low=-100, high=200)  # an interval of a gap that is hardly there has no end
    sns.despine(ax=ax)
