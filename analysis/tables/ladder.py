"""The claims at each size of training, and whether they still change."""

import math
from collections.abc import Iterator
from dataclasses import astuple

from analysis.findings import Findings
from analysis.formats import Cell
from analysis.ladder import Climb, Step, missing_runs, trend_text
from analysis.means import mean_cell
from analysis.statistics import CONFIDENCE
from analysis.tables.building import table
from analysis.tables.claims import claim_text, p_cell
from analysis.tables.columns import Column, Draft, by_pose, mean_names, pose_heading, section
from ledger.wording import count


@table("ladder", "Claims by size of training")
def ladder(findings: Findings) -> Draft[tuple[Climb, Step]] | None:
    """A section a pose; None for a study without a ladder, or without claims."""
    study, found = findings.study, findings.climbs
    missing = missing_runs(study)
    if not study.rungs or not study.claims.family:
        return None
    sections = [
        section(pose_heading(pose, study.arms), list(_columns(of_pose[0])), of_pose)
        for pose, of_pose in by_pose(found).items()
    ]
    steps = [(climb, step) for climb in found for step in climb.steps]
    columns: list[Column[tuple[Climb, Step]]] = [
        Column("", "pose variant baseline interaction", value=lambda row: astuple(row[0].claim)),
        Column("", "train_images epochs train_flops", value=lambda row: astuple(row[1])[:3]),
        Column("", mean_names("difference", "num_pairs"), value=lambda row: row[1].difference),
        Column("", mean_names("change"), value=lambda row: row[0].change),
        Column("", "change_per_doubling", value=lambda row: row[0].per_doubling),
        Column("", "turns_at_train_flops turns_at_low turns_at_high", value=lambda row: row[0].turns_at or (None,) * 3),
        Column("", "p_settled p_moving", value=lambda row: (row[0].trend.p_settled, row[0].trend.p_moving)),
        Column("", "trend", value=lambda row: row[0].trend.direction),
        Column("", "run_keys", value=lambda row: " ".join(row[1].keys)),
    ]
    notes = (
        "Each column is a size of training (images x epochs), the last the study's own: the difference in points of "
        f"test accuracy, paired by seed, ± the half width of its {100 * CONFIDENCE:g} % Student-t interval. Settings "
        "and seeds are the same at every size. Where images and epochs both grow, what each of them does is not told "
        "apart.",
        "Last change: how much the difference changed between the last two sizes. A doubling: that change for each "
        "doubling of the training computation.",
        "Last change too small to matter: two one-sided t tests show that the last change lies within ± "
        f"{100 * study.claims.margin:g} points; what more training would change is not said. Turning: t tests show the "
        "difference on one side of zero at one size, "
        "and on the other at a later one, or after one more step if the last change is repeated (an extrapolation). "
        f"Still changing: a t test shows that it changes. All at {study.claims.alpha:g}, corrected for the number of "
        "claims (Holm); a small p supports the word. The claims themselves are judged at the study's own size; one "
        "that turns or shrinks is then called trained too short. Where the mean changes its sign between two sizes, 0 "
        "lies on a straight line over the logarithm of the computation, with its 95 % Fieller interval over seeds.",
        *(
            f"Nothing is said while runs are missing: {count(num, 'run')} of {train_images:,} images x "
            f"{count(epochs, 'epoch')}."
            for (train_images, epochs), num in missing.items()
        ),
    )
    return Draft(sections, notes, columns, steps)


def _columns(first: Climb) -> Iterator[Column[Climb]]:
    """What people read of each claim; all have the sizes of the first."""
    yield Column("Claim", "", "l", lambda climb: claim_text(climb.claim))
    for number, step in enumerate(first.steps):
        yield _size_column(number, step)
    yield Column("Last change", cell=lambda climb: mean_cell(climb.change, signed=True))
    yield Column("A doubling", cell=_doubling)
    yield Column("Trend", "", "l", _trend)
    yield Column("p (small)", cell=lambda climb: p_cell(climb.trend.p_settled))
    yield Column("p (changing)", cell=lambda climb: p_cell(climb.trend.p_moving))


def _size_column(number: int, step: Step) -> Column[Climb]:
    heading = f"{step.train_images:,} x {step.epochs}"
    return Column(heading, cell=lambda climb: mean_cell(climb.steps[number].difference, signed=True))


def _doubling(climb: Climb) -> Cell | None:
    if math.isnan(climb.per_doubling):
        return None
    return Cell(f"{100 * climb.per_doubling:+.1f}".replace("-", "−"), climb.per_doubling)


def _trend(climb: Climb) -> Cell:
    return Cell(trend_text(climb), strong=climb.trend.direction == "settled")
