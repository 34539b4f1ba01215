"""How the variants get there: validation accuracy over epochs."""

import numpy as np
from matplotlib.figure import Figure

from analysis.ablation import Row
from analysis.evaluations import read_histories
from analysis.figures import figure
from analysis.figures.panels import BANDS, MAX_LINES, Axis, Line, line_over, panels_figure
from analysis.figures.selection import lines, selected_rows
from analysis.findings import Findings
from analysis.records import Study

_Curve = dict[int, float]
"""Validation accuracy by epoch."""


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
    curves = _curves(findings.study, rows)
    return panels_figure(
        findings.study,
        [[_line(row, curves) for row in rows]],
        [Axis("epoch")],
        title=lines("Learning curves", note),
        score="validation accuracy",
        nothing="no validation scores",
        together=0,
    )


def _curves(study: Study, rows: list[Row]) -> dict[str, _Curve]:
    """By key, for the final runs that have validation scores."""
    keys = [run.key for row in rows for run in row.finals if run.status != "missing"]
    curves: dict[str, _Curve] = {}
    scored = read_histories(study, keys)[["key", "epoch", "val_accuracy"]].dropna()
    for key, epoch, score in scored.itertuples(index=False):
        curves.setdefault(key, {})[epoch] = score
    return curves


def _line(row: Row, curves: dict[str, _Curve]) -> Line:
    completed = [curves.get(run.key, {}) for run in row.finals if run.status == "completed"]
    epochs = sorted({epoch for curve in completed for epoch in curve})
    score_ES = np.array([[curve.get(epoch, np.nan) for curve in completed] for epoch in epochs])
    line = line_over(row.pose, row.variant, np.array(epochs), score_ES.reshape(len(epochs), len(completed)))
    stopped = [curves[run.key] for run in row.finals if run.status != "completed" and run.key in curves]
    return line._replace(lost=[(np.array(list(curve)), np.array(list(curve.values()))) for curve in stopped])
