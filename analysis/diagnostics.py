"""The transformer table: whether the variants' transformers do anything, and whether it is what the pose asks for."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.formats import ABSENT, Cell, TextTable, one_line, text_table
from analysis.means import Mean, mean_cell, mean_of
from analysis.records import Study, read_study
from analysis.run_records import TRANSFORMER_COLUMNS
from analysis.statistics import CONFIDENCE, mean_interval


class _Column(NamedTuple):
    """A number of the table: heading, name in the ledger, factor and decimals as printed, and what it says."""

    heading: str
    name: str
    factor: float
    decimals: int
    meaning: str


_COLUMNS = (
    _Column(
        "Identity %", "identity_fraction", 100, 0,
        "share of the images that the transformer leaves as they are: no point moves by 1/64 of the image's side",
    ),
    _Column(
        "Angle error °", "angle_error_deg", 1, 1,
        "median distance between the predicted and the true angle, after the constant turn that fits best is removed, "
        "since the classifier does not mind which way up all images are",
    ),
    _Column(
        "Angle R²", "angle_r2", 1, 2,
        "how much of the true angles' variation the predicted ones explain, likewise: 1 is all, 0 none",
    ),
    _Column("Scale R²", "log_scale_r2", 1, 2, "the same of the logarithm of the scale"),
    _Column("Shift R²", "shift_r2", 1, 2, "the same of the shift"),
    _Column(
        "Spread px", "spread_px", 1, 2,
        "how far the maps of single images are from the mean map: 0 where every image gets the same one",
    ),
    _Column(
        "Out of frame %", "out_of_frame", 100, 1, "mean share of the output's points that look outside the image"
    ),
    _Column(
        "Condition", "condition", 1, 2,
        "median ratio of the map's longer to its shorter axis: 1 keeps shapes, a large one flattens them",
    ),
    _Column(
        "Zoom", "zoom", 1, 2,
        "median size of what is seen: above 1 more than the image, which shrinks; below 1 a part of it, enlarged",
    ),
)  # fmt: skip

IMPORTANCE = (
    "Variant",
    "Verdict",
    "Angle R²",
    "Identity %",
    "Spread px",
    "Angle error °",
    "Zoom",
    "Out of frame %",
    "Shift R²",
    "Scale R²",
    "Condition",
    "n",
)
"""Headings in the order in which a narrow page should keep them."""

MEANS = tuple(
    name.removeprefix("transformer.")
    for name in TRANSFORMER_COLUMNS
    if name not in ("transformer.num_images", "transformer.angle_deg")  # an angle over seeds has no plain mean
)
"""Names in the ledger of all numbers that have a mean over seeds."""

_VERDICTS = ("working", "idle", "collapsed")
_UNMEASURED = "unmeasured"
_STATUSES = ("pruned", "diverged", "failed", "missing", _UNMEASURED)


@dataclass(frozen=True)
class Look:
    """What the transformers of one arm do.

    verdicts: counts; a run without a record counts by its status. means: by name in the ledger, over the completed
    runs that have it, in the ledger's units. keys: of those runs.
    """

    pose: str
    variant: str
    verdicts: dict[str, int]
    means: dict[str, Mean]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class LookSection:
    """The arms with a transformer at one pose, as text and as numbers."""

    pose: str
    table: TextTable
    rows: tuple[Look, ...]


@dataclass(frozen=True)
class Diagnostics:
    """The transformer table, built like Ablation: a title, a section a pose, and notes, a list of lines.

    stage: `final`, or `trial` where no final run has a record yet.
    """

    study: str
    stage: str
    title: str
    sections: tuple[LookSection, ...]
    notes: tuple[str, ...]


def diagnostics(ledger: Path, study: str) -> Diagnostics | None:
    """The transformer table of a study; None if no run has a record. Raises UserError as read_study does."""
    return study_diagnostics(read_study(ledger, study))


def study_diagnostics(study: Study) -> Diagnostics | None:
    """The transformer table of a study that was read; None if no run has a record."""
    recorded = study.runs[[*TRANSFORMER_COLUMNS, "transformer.verdict"]].notna().any(axis=1)
    stages = study.runs["stage"]
    stage = next((stage for stage in ("final", "trial") if recorded[stages == stage].any()), None)
    if stage is None:
        return None
    looks = []
    for i, arm in enumerate(study.arms):
        listed = (study.runs["arm"] == i) & (stages == stage)
        if recorded[listed].any():
            looks.append(_look(arm.pose, arm.variant, study.runs[listed], recorded[listed], stage))
    sections = []
    for pose in dict.fromkeys(look.pose for look in looks):
        of_pose = tuple(look for look in looks if look.pose == pose)
        columns = ("Variant", "Verdict", "n", *(column.heading for column in _COLUMNS))
        table = text_table(columns, "ll" + "r" * (len(columns) - 2), list(map(_cells, of_pose)))
        sections.append(LookSection(pose, table, of_pose))
    title = f"Transformers on {study.task_label}"
    return Diagnostics(study.name, stage, title, tuple(sections), tuple(_notes(stage)))


def _look(pose: str, variant: str, runs: pd.DataFrame, recorded: "pd.Series[bool]", stage: str) -> Look:
    verdicts: Counter[str] = Counter()
    for verdict, status, has in zip(runs["transformer.verdict"], runs["status"], recorded, strict=True):
        if has and isinstance(verdict, str):
            verdicts[verdict] += 1
        else:
            verdicts[_UNMEASURED if status == "completed" else status] += 1
    order = [*_VERDICTS, *sorted(set(verdicts) - {*_VERDICTS, *_STATUSES}), *_STATUSES]
    averaged = runs[(runs["status"] == "completed") & recorded]
    estimate = mean_interval(averaged[[f"transformer.{name}" for name in MEANS]].to_numpy().T)
    means = {name: mean_of(estimate, i) for i, name in enumerate(MEANS)}
    if stage == "trial":  # they differ in more than their seeds
        means = {name: mean._replace(half_width=math.nan) for name, mean in means.items()}
    counts = {name: verdicts[name] for name in order if verdicts[name]}
    return Look(pose, variant, counts, means, tuple(averaged["key"]))


def _cells(look: Look) -> tuple[Cell, ...]:
    num = len(look.keys)
    numbers = (_number_cell(look.means[column.name], column) for column in _COLUMNS)
    return (Cell(look.variant), Cell(verdict_text(look)), Cell(str(num), num), *numbers)


def verdict_text(look: Look) -> str:
    """`2 working, 1 idle`."""
    return ", ".join(f"{num} {one_line(verdict)}" for verdict, num in look.verdicts.items())


def _number_cell(mean: Mean, column: _Column) -> Cell:
    if mean.num and np.abs(column.factor * mean.value) >= 1e4:  # the condition of a map that flattens everything
        return Cell(f"{column.factor * mean.value:.0e}", mean.value)
    return mean_cell(mean, column.decimals, factor=column.factor, dash=False)


def _notes(stage: str) -> Iterator[str]:
    if stage == "trial":
        yield "No final run has been measured yet: these are the trials, which differ in their hyper-parameters."
    yield (
        f"Verdict: how many of the {stage} runs are working (different images get different maps), idle (hardly "
        "an image is moved, or all by the same map) or collapsed (most of the image is lost); a run that was not "
        "measured counts by how it ended. Only the R² say whether maps that differ follow the pose: those "
        "of stn_random differ, and follow nothing."
    )
    spread = f", ± the half width of their {100 * CONFIDENCE:g} % Student-t interval" if stage == "final" else ""
    yield (
        f"The numbers are means over the completed runs{spread}; n counts those runs. {ABSENT} stands where "
        "nothing can be said, such as the true pose's columns where it is the same for all images."
    )
    for column in _COLUMNS:
        yield f"{column.heading}: {column.meaning}."
