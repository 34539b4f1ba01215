"""How the variants get there: validation accuracy over epochs; and for a page that moves, all scores over epochs."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.ablation import Row
from analysis.chance import chance_line
from analysis.evaluations import read_histories
from analysis.figures.panels import BANDS, MAX_LINES, TOGETHER, Column, Line, line_over, lines_figure, variant_looks
from analysis.figures.registry import figure
from analysis.figures.selection import selected_rows
from analysis.figures.style import LineStyle, model_of
from analysis.findings import Findings
from analysis.formats import one_line
from analysis.statistics import Floats

SCORES = {
    "val_accuracy": "validation accuracy, %",
    "val_loss": "validation loss",
    "train_accuracy": "training accuracy, %",
    "train_loss": "training loss",
}
"""The scores of an epoch that a page can show, and what it calls them."""


@figure(
    "curves",
    "Learning curves: the accuracy on validation images after each epoch of training. In a panel of one model a line "
    f"is an augmentation policy, and grey lines are those of the other panels. {BANDS}",
)
def curves_figure(findings: Findings) -> Figure:
    """Validation accuracy over epochs of the final runs: a panel a model and pose, a line a policy.

    Mean and 95 % interval of the completed runs; each run that stopped early is a dotted line of its own.
    """
    rows, note = _rows(findings)
    scores = _scores(findings, rows)
    return lines_figure(
        findings.study, [Column("epoch", [_line(row, scores, "val_accuracy") for row in rows])], "Learning curves",
        note, score="validation accuracy", nothing="no validation scores", together=0,
    )  # fmt: skip


def moving_curves(findings: Findings) -> dict[str, Any]:
    """What curves.js draws in the figure's place, as JSON has it; nothing where no run has a history.

    note: which variants these are, where there is no room for all. chance: in words. most: lines that one panel holds.
    scores: label and chance level (None where there is none) of each that there is. lines: pose, variant, model, number
    of runs, and the look in panels of one model (`apart`) and in one for all (`together`): colour and dashes. In the
    order of the scores, `curves`: x, mean, half width, single seeds in its place, and x and y of runs that were lost.
    """
    rows, note = _rows(findings)
    scores, chance = _scores(findings, rows), chance_line(findings.study)
    names = [name for name in SCORES if scores[name].notna().any()]
    variants = [row.variant for row in rows]
    apart, together = (variant_looks(variants, one_panel=one_panel) for one_panel in (False, True))
    lines = [
        {
            "pose": one_line(row.pose),
            "variant": one_line(row.variant),
            "model": one_line(model_of(row.variant)),
            "num": sum(run.status == "completed" for run in row.finals),
            "apart": _look(apart[row.variant]),
            "together": _look(together[row.variant]),
            "curves": [_curve(_line(row, scores, name), 100 if "accuracy" in name else 1) for name in names],
        }
        for row in rows
    ]
    levels = [100 * chance[1] if chance and "accuracy" in name else None for name in names]
    shown = [{"label": SCORES[name], "chance": level} for name, level in zip(names, levels, strict=True)]
    about = {"note": note, "chance": chance[0] if chance else "", "most": TOGETHER}
    return about | {"scores": shown, "lines": lines} if names else {}


def _rows(findings: Findings) -> tuple[list[Row], str]:
    """The variants that there is room for, and a line that says which."""
    of_pose, note = selected_rows(findings, range(len(findings.study.arms)), MAX_LINES)
    return [row for rows in of_pose.values() for row in rows], note


def _scores(findings: Findings, rows: Iterable[Row]) -> pd.DataFrame:
    """Of the final runs, as read_histories has them."""
    return read_histories(findings.study, [run.key for row in rows for run in row.finals if run.status != "missing"])


def _line(row: Row, scores: pd.DataFrame, name: str) -> Line:
    """The score of that name over epochs."""
    scores = scores[["key", "epoch", name]].dropna()
    completed = [run.key for run in row.finals if run.status == "completed"]
    score_ES = scores[scores["key"].isin(completed)].pivot(index="epoch", columns="key", values=name)
    line = line_over(row.pose, row.variant, score_ES.index.to_numpy(), score_ES.reindex(columns=completed).to_numpy())
    stopped = (scores[scores["key"] == run.key] for run in row.finals if run.status != "completed")
    return line._replace(lost=[(run["epoch"].to_numpy(), run[name].to_numpy()) for run in stopped if len(run)])


def _curve(line: Line, factor: float) -> dict[str, Any]:
    def numbers(values: Floats) -> list[float | None]:
        return [float(f"{factor * value:.4g}") if np.isfinite(value) else None for value in values]

    seeds = line.seed_XS.T[~np.isnan(line.seed_XS).all(axis=0)]
    return {
        "x": line.x_X.tolist(),
        "mean": numbers(line.mean_X),
        "half": numbers(line.half_width_X),
        "seeds": list(map(numbers, seeds)),
        "lost": [[x_X.tolist(), numbers(y_X)] for x_X, y_X in line.lost],
    }


def _look(look: LineStyle) -> list[str]:
    return [to_hex(look.color), {"-": "", "--": "7 3", "-.": "7 3 2 3", ":": "2 3"}[look.linestyle]]
