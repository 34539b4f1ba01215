"""Whether the networks know how sure they may be: accuracy over confidence, a reliability diagram."""

import numpy as np
from matplotlib.figure import Figure

from analysis.evaluations import Predictions, read_predictions
from analysis.figures.panels import BANDS, MAX_LINES, Column, line_over, lines_figure
from analysis.figures.registry import figure
from analysis.figures.selection import has_predictions, keys_of_arms, selected
from analysis.findings import Findings
from analysis.statistics import Floats

NUM_BINS = 15
"""Bins of confidence, equally wide, as in the expected calibration error."""

MIN_IMAGES = 20
"""Images without which a bin of a run says nothing."""


@figure(
    "calibration",
    "Of the test images of which a network is so sure, how many it gets right. On the diagonal its confidence is "
    f"honest; below it, it is surer than it should be. {BANDS}",
)
def calibration_figure(findings: Findings) -> Figure | None:
    """Accuracy in bins of the confidence in the predicted class; None where no predictions are kept.

    Source: Guo et al. 2017, On calibration of modern neural networks, section 2 (arXiv:1706.04599).
    """
    study, keys = findings.study, keys_of_arms(findings)
    predicted = [arm for arm in keys if any(has_predictions(study, key) for key in keys[arm])]
    arms, note = selected(study, predicted, MAX_LINES)
    middle_B = 100 * ((np.arange(NUM_BINS) + 0.5) / NUM_BINS)
    lines = []
    for i in arms:
        arm, runs = study.arms[i], filter(None, (read_predictions(study, key) for key in keys[i]))
        accuracy_BS = np.stack([_accuracy_by_bin(run) for run in runs], axis=1)
        filled_B = ~np.isnan(accuracy_BS).all(axis=1)
        lines.append(line_over(arm.pose, arm.variant, middle_B[filled_B], accuracy_BS[filled_B]))
    lowest = min((float(line.x_X[0]) for line in lines if len(line.x_X)), default=None)
    if lowest is None:
        return None
    ends = [lowest, 100.0]
    ticks = ticks_from(lowest)
    column = Column("confidence in the predicted class, %", lines, ticks, list(map(str, ticks)), reference=(ends, ends))
    return lines_figure(
        study, [column], "Accuracy over confidence", note, score="test accuracy", nothing="too few test images"
    )


def ticks_from(lowest: float) -> list[int]:
    """Whole per cents in even steps up to 100, three at least where confidences begin at 96 or lower."""
    step = next(step for step in (20, 10, 5, 2, 1) if step == 1 or lowest + 2 * step <= 100)
    return [tick for tick in range(0, 101, step) if tick >= lowest - step / 4]


def _accuracy_by_bin(run: Predictions) -> Floats:
    """B: the bins; NaN where too few images are in one."""
    bin_N = np.clip((run.confidence_N * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    num_B = np.bincount(bin_N, minlength=NUM_BINS)
    correct_B = np.bincount(bin_N, weights=run.correct_N, minlength=NUM_BINS)
    return np.where(num_B >= MIN_IMAGES, correct_B / np.maximum(num_B, 1), np.nan)
