"""The claims over the computation of a training: whether a difference still changes."""

import math

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator

from analysis.figures import figure, narrow, style
from analysis.findings import Findings
from analysis.ladder import Climb, trend_text
from analysis.wording import plain_points

MAX_CLAIMS = 12
_COLUMNS = 3
_NAME = 30


@figure(
    "ladder",
    "Each claim at rising sizes of training: the difference in test accuracy of the first variant to the second, with "
    "its 95 % interval over seeds, over the computation of one training. Above zero the first is better. The grey band "
    "is as wide as a difference that does not matter, around the last one: a claim has settled where a test shows the "
    "last change to be no larger. One whose line heads for zero may not survive more training.",
)
def ladder_figure(findings: Findings) -> Figure | None:
    """A panel a claim; None for a study without a ladder."""
    drawn = _draw(findings, _COLUMNS, style.WIDTH_IN)
    if drawn is not None:
        more = f"\nthe first {MAX_CLAIMS} of {len(findings.climbs)} claims" if len(findings.climbs) > MAX_CLAIMS else ""
        style.add_title(drawn, findings.study, f"Does it still change with more training?{more}")
    return drawn


@narrow("ladder")
def narrow_ladder(findings: Findings) -> Figure | None:
    """The same, a claim below the other; its title is the page's."""
    return _draw(findings, 1, style.COLUMN_IN)


def _draw(findings: Findings, most_columns: int, width_in: float) -> Figure | None:
    climbs, margin = findings.climbs[:MAX_CLAIMS], findings.study.claims.margin
    if not climbs or any(math.isnan(step.train_flops) for climb in climbs for step in climb.steps):
        return None
    columns = min(most_columns, len(climbs))
    rows = math.ceil(len(climbs) / columns)
    drawn = Figure(figsize=(width_in, 1.0 + 2.0 * rows))
    axes = drawn.subplots(rows, columns, squeeze=False, sharey=True)
    several_poses = len({climb.claim.pose for climb in climbs}) > 1
    for ax in axes.flat[len(climbs) :]:
        ax.set_axis_off()
    for ax, climb in zip(axes.flat, climbs, strict=False):
        _draw_claim(ax, climb, margin, several_poses=several_poses)
    for row in axes:
        row[0].set_ylabel("difference, points")
    for column in range(columns):
        lowest = max(i for i in range(rows) if axes[i, column].axison)
        axes[lowest, column].set_xlabel("FLOPs of one training")
    style.add_legend(
        drawn,
        [
            Line2D([], [], color=style.MAIN, marker="o", label="mean and 95 % t interval over seeds"),
            Patch(color="0.9", linewidth=0, label=f"within {plain_points(margin)} of the last difference"),
        ],
    )
    return drawn


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
    names = f"{style.wrapped_name(claim.variant, _NAME)}\nover {style.wrapped_name(claim.baseline, _NAME)}{pose}"
    names += ",\nless without policies" if claim.interaction else ""
    ax.set_title(f"{names}\n{trend_text(climb)}", fontsize=7.5)
    sns.despine(ax=ax)
