"""Over which range of rotation the variants hold."""

from contextlib import suppress

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.ablation import Row
from analysis.figures.panels import BANDS, MAX_LINES, Column, Line, line_over, lines_figure
from analysis.figures.registry import figure
from analysis.figures.selection import selected_rows
from analysis.findings import Findings
from analysis.records import Study
from ledger.names import name_and_options

_PLAIN_RANGES_DEG = {"upright": 0.0, "R": 90.0}


@figure(
    "ranges",
    "Test accuracy where all images, those for training too, are turned by up to so many degrees. A colour and "
    f"marker a model, dashes an augmentation policy. {BANDS}",
)
def ranges_figure(findings: Findings) -> Figure | None:
    """Test accuracy over the range of the images' rotation: a line a variant, with its 95 % interval over seeds.

    Ranges are those of the poses `R:max_deg=...`; upright counts as 0 and R as 90 deg. None for a study without such a
    pose or with one range only.
    """
    ranges_deg = _ranges_deg(findings.study)
    if set(ranges_deg) <= set(_PLAIN_RANGES_DEG) or len(ranges_deg) < 2:
        return None
    of_ranges = [index for index, arm in enumerate(findings.study.arms) if arm.pose in ranges_deg]
    of_pose, note = selected_rows(findings, of_ranges, MAX_LINES * len(ranges_deg))
    by_variant: dict[str, dict[float, Row]] = {}
    for pose, rows in of_pose.items():
        for row in rows:
            by_variant.setdefault(row.variant, {})[ranges_deg[pose]] = row
    ticks = sorted(ranges_deg.values())
    lines = [_line(variant, rows) for variant, rows in by_variant.items()]
    labels = [f"±{deg:g}°" if deg else "0°" for deg in ticks]
    return lines_figure(
        findings.study, [Column("range of the images' rotation", lines, ticks, labels)],
        "Accuracy over the range of rotation", note, score="test accuracy", nothing="no completed final run",
    )  # fmt: skip


def _line(variant: str, row_of_range: dict[float, Row]) -> Line:
    by_seed = {deg: row.test_by_seed for deg, row in sorted(row_of_range.items()) if row.test_accuracy.num}
    scores = pd.DataFrame.from_dict(by_seed, orient="index").sort_index(axis="columns")
    return line_over("", variant, scores.index.to_numpy(np.float64), scores.to_numpy(np.float64))


def _ranges_deg(study: Study) -> dict[str, float]:
    """By pose, of those that differ in their range of rotation only; of poses of one range, the first."""
    poses: dict[float, str] = {}
    for full_name in dict.fromkeys(arm.pose for arm in study.arms):
        pose, options = name_and_options(full_name)
        max_deg = _PLAIN_RANGES_DEG.get(full_name)
        if pose == "R" and set(options) == {"max_deg"}:
            with suppress(ValueError):
                max_deg = float(options["max_deg"])
        if max_deg is not None:
            poses.setdefault(max_deg, full_name)
    return {pose: deg for deg, pose in poses.items()}
