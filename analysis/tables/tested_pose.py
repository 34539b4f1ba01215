"""Trained in one pose, tested in another: what variants keep on moved images, and what that costs on upright ones."""

from collections.abc import Iterator
from typing import NamedTuple

from analysis.findings import Findings
from analysis.formats import Cell
from analysis.gap import GAP_COLUMN, Share, gap_notes, gaps, plain_arms, share_text, shares
from analysis.means import Mean, mean_of
from analysis.statistics import CONFIDENCE, mean_interval, paired_difference
from analysis.tables.building import table
from analysis.tables.columns import (
    POSE,
    RUN_KEYS,
    VARIANT,
    Column,
    Draft,
    arms_by_pose,
    by_pose,
    mean_column,
    pose_heading,
    section,
)
from ledger.scores import UPRIGHT

IMPORTANCE = ("Variant", "Upright %", "Moved %", "Upright gain", GAP_COLUMN, "Moved gain", "Lost", "n")
"""Headings in the order in which a narrow terminal gives columns up, the last one first."""


class Moved(NamedTuple):
    """An arm, and its accuracy on test images in the pose of its training images and in that of the test part.

    lost: the first less the second. upright_gain, gain: by how much either is above the plain network's; None for that
    network itself, and where there is none. share: of the gap.
    """

    pose: str
    variant: str
    keys: tuple[str, ...]
    upright: Mean
    moved: Mean
    lost: Mean
    upright_gain: Mean | None
    gain: Mean | None
    share: Share | None


@table("test_pose", "Upright and moved test images")
def tested_pose(findings: Findings) -> Draft[Moved] | None:
    """A section a pose of the training images; None for a study whose test images are in the same."""
    study = findings.study
    if not study.test_pose or UPRIGHT.name not in findings.scores.finals:
        return None
    rows, found = list(_rows(findings)), gaps(study.arms, findings.scores.test_AS)
    columns: list[Column[Moved]] = [
        POSE,
        Column("", "test_pose", value=lambda row: study.test_pose),
        VARIANT,
        mean_column("Upright %", "upright_accuracy", lambda row: row.upright, num="upright_accuracy_num_seeds"),
        mean_column("Moved %", "test_accuracy", lambda row: row.moved, num="test_accuracy_num_seeds"),
        mean_column("Lost", "lost", lambda row: row.lost),
        mean_column("Upright gain", "upright_gain", lambda row: row.upright_gain, signed=True),
        mean_column("Moved gain", "gain", lambda row: row.gain, signed=True),
        Column(
            GAP_COLUMN, "gap_closed gap_closed_low gap_closed_high", "r",
            lambda row: Cell(share_text(row.share, row.moved.num), row.share.value if row.share else None),
            lambda row: row.share[:3] if row.share else (None,) * 3,
        ),
        Column("n", cell=lambda row: row.moved.num),
        RUN_KEYS,
    ]  # fmt: skip
    shown = [column for column in columns if found or column.heading != GAP_COLUMN]
    poses, what = list(arms_by_pose(study.arms)), f"tested under {study.test_pose}"
    sections = [
        section(pose_heading(pose, study.arms, what), shown, of_pose) for pose, of_pose in by_pose(rows).items()
    ]
    notes = (
        f"Every network was trained, and its settings chosen, on images under {' or '.join(poses)}. Upright: test "
        f"images as these are. Moved: the same test images under {study.test_pose}, which all other tables are about. "
        "The same runs give both.",
        "Lost: points between the two. Gain: points above the plain network on the variant's backbone; below zero, "
        "what it costs. All are means over the n completed final runs, differences paired by seed, ± the half "
        f"width of their {100 * CONFIDENCE:g} % Student-t interval, not corrected for the number of comparisons.",
        *gap_notes(found, several_poses=len(poses) > 1),
    )
    return Draft(sections, notes, columns, rows)


def _rows(findings: Findings) -> Iterator[Moved]:
    arms, scores = findings.study.arms, findings.scores
    upright_AS, moved_AS = scores.array(UPRIGHT.name), scores.test_AS
    upright, moved, lost = mean_interval(upright_AS), mean_interval(moved_AS), mean_interval(upright_AS - moved_AS)
    share_A = shares(arms, moved_AS)
    for i, (arm, plain) in enumerate(zip(arms, plain_arms(arms), strict=True)):
        upright_gain, gain = (
            None if plain in (-1, i) else mean_of(paired_difference(score_AS[[i]], score_AS[[plain]]), 0)
            for score_AS in (upright_AS, moved_AS)
        )
        of_poses = mean_of(upright, i), mean_of(moved, i), mean_of(lost, i)
        yield Moved(arm.pose, arm.variant, scores.keys[i], *of_poses, upright_gain, gain, share_A[i])
