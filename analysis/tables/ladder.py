"""The claims at each size of training, and whether they still change."""

import math

from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, Section, Table, Value, text_table
from analysis.ladder import TREND_WORDS, Climb, missing_runs
from analysis.means import mean_cell
from analysis.statistics import CONFIDENCE
from analysis.tables import table
from analysis.tables.claims import claim_text, p_cell
from analysis.tables.ranking import pose_heading
from ledger.wording import count


@table("ladder")
def ladder(findings: Findings) -> Table | None:
    """A section a pose; None for a study without a ladder, or without claims."""
    study, found = findings.study, findings.climbs
    missing = missing_runs(study)
    if not study.rungs or not study.claims.family:
        return None
    sections = []
    for pose in dict.fromkeys(climb.claim.pose for climb in found):
        of_pose = [climb for climb in found if climb.claim.pose == pose]
        sizes = [f"{step.train_images:,} x {step.epochs}" for step in of_pose[0].steps]
        headings = ("Claim", *sizes, "Last change", "A doubling", "Trend", "p (settled)", "p (moving)")
        strong = frozenset((i, 3 + len(sizes)) for i, climb in enumerate(of_pose) if climb.trend.direction == "settled")
        text = text_table(headings, "l" + "r" * (2 + len(sizes)) + "lrr", list(map(_cells, of_pose)), strong)
        keys = tuple(tuple(key for step in climb.steps for key in step.keys) for climb in of_pose)
        sections.append(Section(pose_heading(pose, study.arms), text, keys))
    rows = tuple(
        (
            *(study.name, climb.claim.pose, climb.claim.variant, climb.claim.baseline, climb.claim.interaction),
            *(step.train_images, step.epochs, None if math.isnan(step.train_flops) else step.train_flops),
            *step.difference,
            *climb.change,
            *_numbers(climb.per_doubling, climb.turns_at, climb.trend.p_settled, climb.trend.p_moving),
            climb.trend.direction,
            " ".join(step.keys),
        )
        for climb in found
        for step in climb.steps
    )
    columns = (
        *("study", "pose", "variant", "baseline", "interaction", "train_images", "epochs", "train_flops"),
        *("difference", "difference_half_width", "num_pairs", "change", "change_half_width", "change_num_pairs"),
        *("change_per_doubling", "turns_at_train_flops", "p_settled", "p_moving", "trend", "run_keys"),
    )
    notes = (
        "Each column is a size of training (images x epochs), the last the study's own: the difference in points of "
        f"test accuracy, paired by seed, ± the half width of its {100 * CONFIDENCE:g} % Student-t interval. Settings "
        "and seeds are the same at every size.",
        "Last change: how much the difference changed between the last two sizes. A doubling: that change for each "
        "doubling of the training computation.",
        "Settled: two one-sided t tests show that the last change lies within ± "
        f"{100 * study.claims.margin:g} points. Turning: t tests show the difference on one side of zero at one size, "
        "and on the other at a later one, or after one more step if the last change is repeated (an extrapolation). "
        f"Still moving: a t test shows that it changes. All at {study.claims.alpha:g}, corrected for the number of "
        "claims (Holm); a small p supports the word. The claims themselves are judged at the study's own size; one "
        "that turns or shrinks is then called trained too short.",
        *(
            f"Nothing is said while runs are missing: {count(num, 'run')} of {train_images:,} images x "
            f"{count(epochs, 'epoch')}."
            for (train_images, epochs), num in missing.items()
        ),
    )
    title = f"Claims by size of training on {study.task_label}"
    return Table(study.name, "ladder", title, tuple(sections), notes, columns, rows)


def _numbers(*values: float) -> tuple[Value, ...]:
    return tuple(None if math.isnan(value) else value for value in values)


def _cells(climb: Climb) -> tuple[Cell, ...]:
    trend = climb.trend
    doubling = ABSENT if math.isnan(climb.per_doubling) else f"{100 * climb.per_doubling:+.1f}".replace("-", "−")
    return (
        Cell(claim_text(climb.claim)),
        *(mean_cell(step.difference, signed=True) for step in climb.steps),
        mean_cell(climb.change, signed=True),
        Cell(doubling, climb.per_doubling),
        Cell(TREND_WORDS[trend.direction]),
        p_cell(trend.p_settled),
        p_cell(trend.p_moving),
    )
