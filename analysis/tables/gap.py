"""How much of the gap each variant closes, at each size of training."""

from collections.abc import Iterator

from analysis.findings import Findings
from analysis.formats import Cell
from analysis.gap import SizedShares, gap_notes, gaps, share_text, shares_by_size
from analysis.ladder import sizes_of
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, VARIANT, Column, Draft, pose_sections


@table("gap", "Gap closed by size of training")
def gap(findings: Findings) -> Draft[SizedShares] | None:
    """A section a pose; None for a study without a ladder, or without both ends of a gap."""
    study, rows = findings.study, shares_by_size(findings.study)
    if not rows:
        return None
    sizes = sizes_of(study)
    columns: list[Column[SizedShares]] = [POSE, VARIANT]
    for number, (train_images, epochs) in enumerate(sizes):
        columns += _columns(number, train_images, epochs)
    columns.append(RUN_KEYS)
    found = gaps(study.arms, findings.scores.test_AS)
    notes = (
        "Each column is a size of training (images x epochs), the last the study's own: the share of the gap closed, "
        "in per cent. Settings and seeds are the same at every size.",
        *gap_notes(found, several_poses=len({row.pose for row in rows}) > 1),
    )
    return Draft(pose_sections(study, columns, rows), notes, columns, rows)


def _columns(number: int, train_images: int, epochs: int) -> Iterator[Column[SizedShares]]:
    heading, name = f"{train_images:,} x {epochs}", f"gap_closed_{train_images}x{epochs}"

    def cell(row: SizedShares) -> Cell:
        share = row.shares[number]
        return Cell(share_text(share, max(each.num for each in row.shares)), share.value)

    yield Column(heading, f"{name} {name}_low {name}_high", "r", cell, lambda row: row.shares[number][:3])
