"""Images before and after each variant's transformer, from the pictures that the runs keep."""

from collections import Counter
from typing import NamedTuple

import matplotlib.image
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.registry import figure
from analysis.figures.selection import pose_label, selected
from analysis.findings import Findings
from analysis.records import Study
from ledger.errors import UserError

_LABEL = 21

Pixels = npt.NDArray[np.float32]
"""Rows, columns and three or four channels, in [0, 1]."""


class _Strip(NamedTuple):
    """A row of the figure: images side by side."""

    label: str
    pixels: Pixels
    is_before: bool


@figure(
    "gallery",
    "The same validation images as each variant's classifier sees them, after its transformer; a grey label marks the "
    "images as they are. Upright, centred images below turned ones mean that the transformer undoes the pose.",
)
def gallery(findings: Findings) -> Figure | None:
    """For each pose the images as they are, then a row a variant with a transformer, all of the same seed."""
    study = findings.study
    runs = findings.completed
    has_picture = [(study.ledger / "runs" / key / "transformer.png").is_file() for key in runs["key"]]
    runs = runs[np.array(has_picture, dtype=bool)]
    if runs.empty:
        return None
    arms, note = selected(study, {int(arm) for arm in runs["arm"]}, most=10)
    strips = _strips(study, runs[runs["arm"].isin(arms)])
    left_in, gap_in = 1.45, 0.07
    width_in = style.WIDTH_IN - left_in - gap_in
    shapes = [strip.pixels.shape for strip in strips]
    heights_in = [min(width_in * rows / columns, 1.0) for rows, columns, *_ in shapes]
    strips_in = sum(heights_in) + gap_in * len(strips)
    total_in = (strips_in + (0.55 if note else 0.4)) / 0.98  # a title starts at 98 % of a figure's height
    # Placed by hand: a layout engine does not know how high an image of some width is.
    drawn = Figure(figsize=(style.WIDTH_IN, total_in))
    drawn.set_layout_engine("none")
    left, bottom_in = left_in / style.WIDTH_IN, strips_in
    for strip, height_in in zip(strips, heights_in, strict=True):
        bottom_in -= height_in
        bottom, height = bottom_in / total_in, height_in / total_in
        ax = drawn.add_axes((left, bottom, width_in / style.WIDTH_IN, height))
        ax.imshow(strip.pixels, interpolation="antialiased")
        ax.set_anchor("W")
        ax.set_axis_off()
        color, kind = (style.MUTED, "italic") if strip.is_before else ("black", "normal")
        place = (left - 0.015, bottom + height / 2)
        drawn.text(*place, strip.label, ha="right", va="center", fontsize=7.5, color=color, style=kind)
        bottom_in -= gap_in
    return style.finished(drawn, study, [], "Images before and after the transformers", note)


def _strips(study: Study, runs: pd.DataFrame) -> list[_Strip]:
    """runs: those with a picture. Of an arm that lacks the pose's seed, another run is shown, with its own images."""
    strips: list[_Strip] = []
    for pose, of_pose in runs.groupby("pose", sort=False):
        counts = Counter(int(seed) for seed in of_pose["seed"])
        seed = min(counts, key=lambda seed: (-counts[seed], seed))
        shown: Pixels | None = None
        where = f"\n{pose_label(str(pose), _LABEL)}" if runs["pose"].nunique() > 1 else ""
        for arm, of_arm in of_pose.groupby("arm", sort=True):
            key = str(of_arm.loc[(of_arm["seed"] != seed).sort_values(kind="stable").index[0], "key"])
            before, after = _halves(study, key)
            if shown is None or before.shape != shown.shape or not np.array_equal(before, shown):
                strips.append(_Strip(f"the images{where}", before, is_before=True))
            shown = before
            variant = study.arms[int(str(arm))].variant
            strips.append(_Strip(style.wrapped_name(variant, _LABEL), after, is_before=False))
    return strips


def _halves(study: Study, key: str) -> tuple[Pixels, Pixels]:
    """A run's picture in two: the images above as they are, and below as the classifier sees them."""
    file = study.ledger / "runs" / key / "transformer.png"
    try:
        pixels = matplotlib.image.imread(file, format="png")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: is not a picture: {error}") from error
    middle = pixels.shape[0] // 2
    return pixels[:middle], pixels[middle:]
