"""What went wrong: every run that is missing, failed or diverged, and how many were pruned."""

import math

from analysis.ablation import status_text
from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, Section, Table, Value, one_line, text_table
from analysis.tables import table

MAX_LISTED = 200
"""Runs that people's formats list; the rows for programs have all."""

_LOST = ("missing", "failed", "diverged")
_HEADINGS = ("Run", "Variant", "Pose", "Stage", "Seed", "Status", "Epochs", "Error")


@table("failures")
def failures(findings: Findings) -> Table | None:
    """The arms that lost runs, and the runs; None where every run is completed."""
    study = findings.study
    found = [row for row in findings.ablation.rows if {*row.final_statuses, *row.trial_statuses} - {"completed"}]
    if not found:
        return None
    several = len({arm.pose for arm in study.arms}) > 1
    counts = [
        (
            Cell(f"{row.variant} at pose {row.pose}" if several else row.variant),
            Cell(status_text(row.final_statuses) or ABSENT),
            Cell(status_text(row.trial_statuses) or ABSENT),
        )
        for row in found
    ]
    lost = study.runs[study.runs["status"] != "completed"]
    seed_at = _planned_seeds(findings)
    listed: list[tuple[Cell, ...]] = []
    rows: list[tuple[Value, ...]] = []
    names = ("key", "variant", "pose", "stage", "seed", "status", "epochs", "error")
    for key, variant, pose, stage, seed, status, epochs, error in zip(*(lost[n].tolist() for n in names), strict=True):
        seed = seed_at.get(key) if math.isnan(seed) else int(seed)
        epochs = None if math.isnan(epochs) else int(epochs)
        error = error if isinstance(error, str) else None
        rows.append((study.name, pose, variant, stage, seed, status, epochs, error, key))
        if status in _LOST and len(listed) < MAX_LISTED:
            texts = map(Cell, (key, variant, pose, stage))
            cells = (_number(seed), Cell(status), _number(epochs), Cell(_short(error) if error else ABSENT))
            listed.append((*texts, *cells))
    sections = [Section("How runs ended", text_table(("Variant", "Final runs", "Trials"), "lll", counts), ())]
    if listed:
        text = text_table(_HEADINGS, "llllrlrl", listed)
        sections.append(Section("Runs without a score", text, ()))
    notes = [
        "A run that is missing, failed or diverged has no score and is never averaged over; a pruned trial was stopped "
        "because others were better after as many epochs. A diverged run's loss was no longer a number. Failed and "
        "diverged runs are made again on request (make sweep RETRY=1), missing ones by the next sweep."
    ]
    num_lost = int(lost["status"].isin(_LOST).sum())
    if num_lost > len(listed):
        notes.append(f"The first {len(listed)} of {num_lost:,} such runs are listed; the CSV file has all.")
    columns = ("study", "pose", "variant", "stage", "seed", "status", "epochs", "error", "run_keys")
    title = f"Missing, failed and stopped runs on {study.task_label}"
    return Table(study.name, "failures", title, tuple(sections), tuple(notes), columns, tuple(rows))


def _planned_seeds(findings: Findings) -> dict[str, int]:
    """By key, the seeds of final runs: every arm lists them in the same order, so that one tells another's."""
    study = findings.study
    seed_of = {key: int(seed) for key, seed in study.runs[["key", "seed"]].dropna().itertuples(index=False)}
    seed_at: dict[int, int] = {}
    for arm in study.arms:
        seed_at |= {place: seed_of[key] for place, key in enumerate(arm.finals) if key in seed_of}
    return {key: seed_at[place] for arm in study.arms for place, key in enumerate(arm.finals) if place in seed_at}


def _number(number: int | None) -> Cell:
    return Cell(ABSENT if number is None else str(number), number)


def _short(error: str) -> str:
    error = one_line(error)
    return error if len(error) <= 80 else error[:79] + "…"
