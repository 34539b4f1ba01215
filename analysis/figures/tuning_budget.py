"""What fewer trials would have found: the best validation accuracy to expect of so many random trials."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.figures import figure, style
from analysis.figures.selection import grid_shape, lines, selected
from analysis.findings import Findings
from analysis.records import Study
from analysis.statistics import Floats
from analysis.statistics.tuning import check_random_search, tuning_budget
from ledger.errors import UserError

_MOST_ARMS, _COLUMNS, _LEAST_TRIALS = 12, 2, 3
_LABEL = 34


def refusal(study: Study) -> str | None:
    """Why this study has no tuning-budget curves, in one line; None if it may have them."""
    try:
        check_random_search(study.sampler, study.name)
    except UserError as error:
        return str(error)
    return None


@figure(
    "tuning_budget",
    "The best validation accuracy to expect after so many trials of a random search. Where two lines cross, which "
    "variant is better depends on how much one is willing to tune. A trial that was stopped counts with the accuracy "
    "it had; bands are 95 % intervals, too narrow towards the right end.",
)
def tuning_budgets(findings: Findings) -> Figure | None:
    """A panel a pose, a line a variant. None for a study whose trials are not independent draws, see refusal."""
    study = findings.study
    if refusal(study):
        return None
    scores = {arm: score_N for arm in range(len(study.arms)) if len(score_N := _scores(study, arm)) >= _LEAST_TRIALS}
    if not scores:
        return None
    arms, note = selected(study, scores, _MOST_ARMS)
    poses = list(dict.fromkeys(study.arms[arm].pose for arm in arms))
    styles = style.variant_styles([study.arms[arm].variant for arm in arms])
    rows, columns = grid_shape(len(poses), _COLUMNS)
    drawn = Figure(figsize=(style.WIDTH_IN, 1.6 + 2.2 * rows + 0.08 * len(styles)))
    axes = drawn.subplots(rows, columns, squeeze=False, sharey=True)
    for ax in axes.flat[len(poses) :]:
        ax.set_axis_off()
    for ax, pose in zip(axes.flat, poses, strict=False):
        for arm in (arm for arm in arms if study.arms[arm].pose == pose):
            budget = tuning_budget(100 * scores[arm])
            number_N = np.arange(1, len(budget.best_N) + 1)
            line = styles[study.arms[arm].variant]
            ax.fill_between(number_N, budget.low_N, budget.high_N, color=line.color, alpha=0.12, linewidth=0)
            ax.plot(number_N, budget.best_N, markevery=max(1, len(number_N) // 6), **line._asdict())
        if len({arm.pose for arm in study.arms}) > 1:
            ax.set_title(f"pose {style.shortened(pose)}")
        ax.set_xlabel("random trials")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    style.clip_accuracies(axes[0, 0])
    drawn.supylabel("best validation accuracy to expect, %")
    style.add_title(drawn, study, lines("What more tuning brings", note))
    names = {variant: style.wrapped_name(variant, _LABEL) for variant in styles}
    handles = [Line2D([], [], label=names[variant], **line._asdict()) for variant, line in styles.items()]
    style.add_legend(drawn, [*handles, Patch(color=style.MUTED, alpha=0.2, linewidth=0, label="95 % interval")])
    return drawn


def _scores(study: Study, arm: int) -> Floats:
    """Of the trials that are draws: the first is the default setting. Fractions.

    A trial that was stopped counts with its last validation accuracy, 0 where it had none: had it gone on it would
    hardly have been the best. One that failed is the machine's fault and says nothing.
    """
    runs = study.runs[(study.runs["arm"] == arm) & study.runs["key"].isin(study.arms[arm].trials[1:])]
    runs = runs[runs["seed"] == runs["seed"].max()]  # without the best settings' repeats, whose seeds are lower
    runs = runs[runs["status"].isin(("completed", "pruned", "diverged"))]
    return runs["val_accuracy"].fillna(0.0).to_numpy(dtype=np.float64)
