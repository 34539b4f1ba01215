"""What went wrong: every run that is missing, failed or diverged, and how many were pruned."""

from collections.abc import Iterator

import pandas as pd

from analysis.ablation import Row, Run, status_text
from analysis.findings import Findings
from analysis.formats import Section, one_line
from analysis.tables.building import table
from analysis.tables.columns import Column, Draft, text_of

MAX_LISTED = 200
"""Runs that people's formats list; the rows for programs have all."""

_LOST = ("missing", "failed", "diverged")


@table("failures", "Missing, failed and stopped runs")
def failures(findings: Findings) -> Draft[Run] | None:
    """The arms that lost runs, and the runs; None where every run is completed."""
    study = findings.study
    found = [row for row in findings.rows if {*row.final_statuses, *row.trial_statuses} - {"completed"}]
    if not found:
        return None
    several = len({arm.pose for arm in study.arms}) > 1
    counts: list[Column[Row]] = [
        Column("Variant", "", "l", lambda row: f"{row.variant} at pose {row.pose}" if several else row.variant),
        Column("Final runs", "", "l", lambda row: status_text(row.final_statuses) or None),
        Column("Trials", "", "l", lambda row: status_text(row.trial_statuses) or None),
    ]
    columns: list[Column[Run]] = [
        Column("Run", "", "l", lambda run: run["key"]),
        Column("", "pose", value=lambda run: run["pose"]),
        Column("Variant", "variant", "l", lambda run: run["variant"]),
        Column("Pose", "", "l", lambda run: run["pose"]),
        Column("Stage", "stage", "l", lambda run: run["stage"]),
        Column("Seed", "seed", "r", lambda run: run["seed"]),
        Column("Status", "status", "l", lambda run: run["status"]),
        Column("Epochs", "epochs", "r", lambda run: run["epochs"]),
        Column("Error", "error", "l", _short, lambda run: run["error"]),
        Column("", "run_keys", value=lambda run: run["key"]),
    ]
    ended = list(_ended(findings))
    lost = [run for run in ended if run["status"] in _LOST]
    sections = [Section("How runs ended", text_of(counts, found), ())]
    if lost:
        sections.append(Section("Runs without a score", text_of(columns, lost[:MAX_LISTED]), ()))
    notes = [
        "A run that is missing, failed or diverged has no score and is never averaged over; a pruned trial was stopped "
        "because others were better after as many epochs. A diverged run's loss was no longer a number. Failed and "
        "diverged runs are made again on request (make sweep RETRY=1), missing ones by the next sweep."
    ]
    if len(lost) > MAX_LISTED:
        notes.append(f"The first {MAX_LISTED} of {len(lost):,} such runs are listed; the CSV file has all.")
    return Draft(sections, notes, columns, ended)


def _ended(findings: Findings) -> Iterator[Run]:
    """Runs that are not completed, as rows of study.runs; what they lack is None."""
    runs, seed_at = findings.study.runs, _planned_seeds(findings)
    for run in runs[runs["status"] != "completed"].to_dict("records"):
        seed = seed_at.get(run["key"]) if pd.isna(run["seed"]) else int(run["seed"])
        epochs = None if pd.isna(run["epochs"]) else int(run["epochs"])
        yield run | {"seed": seed, "epochs": epochs, "error": run["error"] if isinstance(run["error"], str) else None}


def _planned_seeds(findings: Findings) -> dict[str, int]:
    """By key, the seeds of final runs: every arm lists them in the same order, so that one tells another's."""
    study = findings.study
    seed_of = {key: int(seed) for key, seed in study.runs[["key", "seed"]].dropna().itertuples(index=False)}
    seed_at: dict[int, int] = {}
    for arm in study.arms:
        seed_at |= {place: seed_of[key] for place, key in enumerate(arm.finals) if key in seed_of}
    return {key: seed_at[place] for arm in study.arms for place, key in enumerate(arm.finals) if place in seed_at}


def _short(run: Run) -> str | None:
    error = one_line(run["error"] or "")
    return (error if len(error) <= 80 else error[:79] + "…") or None
