"""Accuracies and differences at each value of the study's factor."""

from functools import partial

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.dependence import Dependence
from analysis.figures import style
from analysis.figures.grids import label_below, panel_grid
from analysis.figures.registry import NARROW, figure
from analysis.figures.selection import first, grouped
from analysis.findings import Findings
from analysis.means import Mean


@figure(
    "dependence",
    "Each variant at each value of the study's factor, every value a study of its own with its own tuning: test "
    "accuracy, and the difference to what the variant is compared with, paired by seed. Bars are 95 % intervals over "
    "seeds. Lines join what is one variant; nothing is known of values in between.",
)
def dependence_figure(findings: Findings, *, width_in: float = style.WIDTH_IN, most_columns: int = 2) -> Figure | None:
    """Two panels a pose; None for a study without a factor, or with one value so far."""
    study, rows = findings.study, findings.dependences
    begun = {level.value for row in rows for level in row.levels if level.accuracy.num}
    if study.factor is None or len(begun) < 2:
        return None
    variants, note = first(list(dict.fromkeys(row.variant for row in rows)), 8, "variants")
    of_pose = grouped([row for row in rows if row.variant in variants], lambda row: row.pose)
    drawn, grid = panel_grid(2 * len(of_pose), most_columns, 2.4, rest_in=1.0, width_in=width_in)
    looks = style.variant_styles(variants)
    panels = iter(grid.flat)
    for pose, of_variants in of_pose.items():
        title = f"pose {style.shortened(pose, 30)}" if len(of_pose) > 1 else ""
        _draw(ax := next(panels), of_variants, looks, "accuracy")
        ax.set(title=title, ylabel="test accuracy, %")
        _draw(ax := next(panels), [row for row in of_variants if row.is_compared], looks, "difference")
        ax.axhline(0, color=style.REFERENCE, linewidth=0.8, zorder=1)
        ax.set(title=title, ylabel="difference, points")
    label_below(grid, style.shortened(study.factor.key))
    handles = grid.flat[0].get_legend_handles_labels()[0]
    return style.finished(drawn, study, handles, "How far does the answer depend on this?", note, most_columns=2)


NARROW["dependence"] = partial(dependence_figure, width_in=style.COLUMN_IN, most_columns=1)


def _draw(ax: Axes, rows: list[Dependence], looks: dict[str, style.LineStyle], what: str) -> None:
    """The means of what (a field of Level) along evenly spaced values, side by side so that bars do not hide bars."""
    for number, row in enumerate(rows):
        means: list[Mean] = [getattr(level, what) for level in row.levels]
        mean_V = np.array([100 * mean.value for mean in means])
        half_V = np.nan_to_num([100 * mean.half_width for mean in means])
        at_V = np.arange(len(means)) + 0.05 * (number - (len(rows) - 1) / 2)
        look = looks[row.variant]._asdict()
        ax.errorbar(at_V, mean_V, half_V, label=style.wrapped_name(row.variant), capsize=2, elinewidth=1, **look)
    values = [level.value for level in rows[0].levels] if rows else []
    ax.set_xticks(range(len(values)), [style.shortened(value, 12) for value in values])
    ax.margins(x=0.12)
    if what == "accuracy":
        style.clip(ax)
    sns.despine(ax=ax)
