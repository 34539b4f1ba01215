"""Which hyper-parameters decided how well a variant did."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from analysis.figures import figure, style
from analysis.figures.selection import arm_label, lines, parameter_label, selected
from analysis.findings import Findings

_MOST_ARMS, _MOST_PARAMETERS = 12, 8
_LABEL = 30


@figure(
    "importance",
    "How much of the difference between a variant's trials each hyper-parameter decided, in per cent of the row; the "
    "method that says so stands in the title. With few trials the shares are rough.",
)
def importance(findings: Findings) -> Figure | None:
    """A row a variant, a column a hyper-parameter; its share as a number and as a bar."""
    study, importances = findings.study, findings.importances
    if importances is None:
        return None
    index = {(arm.pose, arm.variant): i for i, arm in enumerate(study.arms)}
    shares = {index[arm]: share for arm, share in importances.by_arm.items() if arm in index and share}
    if not shares:
        return None
    arms, note = selected(study, shares, _MOST_ARMS)
    names, others = _names([shares[arm] for arm in arms])
    columns = [*names, f"{others} others"] if others else names
    drawn = Figure(figsize=(style.WIDTH_IN, 1.2 + 0.34 * len(arms)))
    axes = drawn.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for column, (ax, name) in enumerate(zip(axes, columns, strict=True)):
        for y, arm in enumerate(arms):
            share = shares[arm]
            if column < len(names):
                value = share.get(name, np.nan)
            else:
                value = sum(each for other, each in share.items() if other not in names)
            if np.isnan(value):
                ax.text(3, y, "not tuned", va="center", fontsize=7, color=style.MUTED, style="italic")
                continue
            ax.barh(y, 100 * value, height=0.62, color=style.MAIN)
            inside = value > 0.6
            ax.text(
                100 * value + (-3 if inside else 3), y, f"{100 * value:.0f}", va="center",
                ha="right" if inside else "left", fontsize=7, color="white" if inside else "black",
            )  # fmt: skip
        ax.set_xlim(0, 100)
        ax.set_xticks([0, 50, 100])
        ax.set_title(parameter_label(name, 15), fontsize=7.5)
        ax.grid(visible=False, axis="y")
        for side in ("right", "top"):
            ax.spines[side].set_visible(False)
    axes[0].set_yticks(range(len(arms)), [arm_label(study, arm, _LABEL) for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    drawn.supxlabel("share of the importance, %")
    evaluator = style.shortened(importances.evaluator, 60)
    style.add_title(drawn, study, lines(f"What decided the validation accuracy: importance by {evaluator}", note))
    return drawn


def _names(shares: list[Mapping[str, float]]) -> tuple[list[str], int]:
    """The hyper-parameters by their mean share, and how many have no room."""
    totals: dict[str, float] = {}
    for share in shares:
        for name, value in share.items():
            totals[name] = totals.get(name, 0.0) + value
    names = sorted(totals, key=lambda name: (-totals[name], name))
    shown = names if len(names) <= _MOST_PARAMETERS else names[: _MOST_PARAMETERS - 1]
    return shown, len(names) - len(shown)
