"""How the variants get there: validation accuracy over epochs."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.ablation import Row
from analysis.evaluations import read_histories
from analysis.figures.panels import BANDS, MAX_LINES, Column, Line, line_over, lines_figure
from analysis.figures.registry import figure
from analysis.figures.selection import selected_rows
from analysis.findings import Findings


@figure(
    "curves",
    "Learning curves: the accuracy on validation images after each epoch of training, a panel a model and a line an "
    f"augmentation policy; grey lines are the other panels'. {BANDS}",
)
def curves_figure(findings: Findings) -> Figure:
    """Validation accuracy over epochs of the final runs: a panel a model and pose, a line a policy.

    Mean and 95 % interval of the completed runs; each run that stopped early is a dotted line of its own.
    """
    of_pose, note = selected_rows(findings, range(len(findings.study.arms)), MAX_LINES)
    rows = [row for rows in of_pose.values() for row in rows]
    keys = [run.key for row in rows for run in row.finals if run.status != "missing"]
    scores = read_histories(findings.study, keys)[["key", "epoch", "val_accuracy"]].dropna()
    return lines_figure(
        findings.study, [Column("epoch", [_line(row, scores) for row in rows])], "Learning curves", note,
        score="validation accuracy", nothing="no validation scores", together=0,
    )  # fmt: skip


def _line(row: Row, scores: pd.DataFrame) -> Line:
    """scores: validation accuracy by key and epoch."""
    completed = [run.key for run in row.finals if run.status == "completed"]
    score_ES = scores[scores["key"].isin(completed)].pivot(index="epoch", columns="key", values="val_accuracy")
    line = line_over(row.pose, row.variant, score_ES.index.to_numpy(), score_ES.reindex(columns=completed).to_numpy())
    stopped = (scores[scores["key"] == run.key] for run in row.finals if run.status != "completed")
    return line._replace(
        lost=[(run["epoch"].to_numpy(), run["val_accuracy"].to_numpy()) for run in stopped if len(run)]
    )
