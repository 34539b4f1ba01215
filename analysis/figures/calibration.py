"""Whether the networks know how sure they may be: accuracy over confidence, a reliability diagram."""

import numpy as np
from matplotlib.figure import Figure

from analysis.evaluations import Predictions, read_predictions
from analysis.figures import figure
from analysis.figures.panels import BANDS, MAX_LINES, Axis, Line, line_over, panels_figure
from analysis.figures.selection import keys_of_arms, lines, selected
from analysis.findings import Findings
from analysis.statistics import Floats

NUM_BINS = 15
"""Of confidence, equally wide, as in the expected calibration error."""

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
    study, keys = findings.study, keys_of_arms(findings.completed)
    kept = [
        arm
        for arm in keys
        if any((study.ledger / "runs" / key / "predictions.safetensors").is_file() for key in keys[arm])
    ]
    arms, note = selected(study, kept, MAX_LINES)
    found: list[Line] = []
    for arm in arms:
        predictions = [run for run in (read_predictions(study, key) for key in keys[arm]) if run is not None]
        accuracy_BS = np.stack([_accuracy_by_bin(run) for run in predictions], axis=1)
        filled_B = ~np.isnan(accuracy_BS).all(axis=1)
        middle_B = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
        found.append(
            line_over(study.arms[arm].pose, study.arms[arm].variant, 100 * middle_B[filled_B], accuracy_BS[filled_B])
        )
    lowest = min((float(line.x_X[0]) for line in found if len(line.x_X)), default=None)
    if lowest is None:
        return None
    ends = [lowest, 100.0]
    ticks = [float(tick) for tick in range(0, 101, 20) if tick >= lowest - 5]
    axis = Axis("confidence in the predicted class, %", ticks, [f"{tick:g}" for tick in ticks], reference=(ends, ends))
    return panels_figure(
        study, [found], [axis], title=lines("Accuracy over confidence", note), score="test accuracy",
        nothing="too few test images",
    )  # fmt: skip


def _accuracy_by_bin(run: Predictions) -> Floats:
    """B: the bins; NaN where too few images are in one."""
    bin_N = np.clip((run.confidence_N * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    num_B = np.bincount(bin_N, minlength=NUM_BINS)
    correct_B = np.bincount(bin_N, weights=run.correct_N, minlength=NUM_BINS)
    return np.where(num_B >= MIN_IMAGES, correct_B / np.maximum(num_B, 1), np.nan)
