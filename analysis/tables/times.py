"""What the runs took: the one table that differs between repetitions of the same study."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, Section, Table, Value, one_line, text_table
from analysis.records import Study
from analysis.run_records import COSTS
from analysis.tables import table

_HEADINGS = ("Variant", "n", "Training s a run", "shortest", "longest", "Images/s", "Peak MiB", "All runs s")
Took = dict[Hashable, float]


@table("times")
def times(findings: Findings) -> Table:
    """One section, a row an arm."""
    study = findings.study
    several = len(study.arms) > len({arm.variant for arm in study.arms})
    keys: list[list[str]] = [[] for _ in study.arms]
    for arm, key in zip(findings.completed["arm"], findings.completed["key"], strict=True):
        keys[arm].append(key)
    cells: list[tuple[Cell, ...]] = []
    rows: list[tuple[Value, ...]] = []
    names: tuple[str, ...] = ()
    for (pose, variant, took), own in zip(_times(study), keys, strict=True):
        num_runs, *costs = took.values()
        name = f"{variant} at pose {pose}" if several else variant
        cells.append((Cell(name), Cell(f"{num_runs:.0f}", num_runs), *map(_cost_cell, costs)))
        rows.append((study.name, pose, variant, *took.values(), " ".join(own)))
        names = tuple(map(str, took))
    text = text_table(_HEADINGS, "l" + "r" * (len(_HEADINGS) - 1), cells)
    measured = study.runs[study.runs[list(COSTS)].notna().any(axis=1)]
    machines = measured[["device", "device_name", "threads"]].drop_duplicates().itertuples(index=False)
    machines_text = sorted({_machine_text(*machine) for machine in machines})
    versions = sorted({one_line(text) for text in measured["versions"].dropna()})
    notes = (
        "Means over completed final runs (n); peak memory is the largest. The last column is the sum over trials and "
        "final runs. Times are measured anew in each repetition and are no part of the other tables.",
        f"Measured on {'; '.join(machines_text) or 'no machine yet'}.",
        *(f"Versions: {text}." for text in versions),
    )
    sections = (Section("", text, tuple(map(tuple, keys))),)
    columns = ("study", "pose", "variant", *names, "run_keys")
    return Table(study.name, "times", f"Times on {study.task_label}", sections, notes, columns, tuple(rows))


def _cost_cell(cost: float) -> Cell:
    return Cell(ABSENT) if pd.isna(cost) else Cell(f"{cost:,.{0 if cost >= 100 else 1}f}", cost)


def _times(study: Study) -> list[tuple[str, str, Took]]:
    """For each arm: pose, variant and, by name, what its completed final runs took; NaN where no run has that cost."""
    runs = study.runs
    completed = runs[(runs["stage"] == "final") & (runs["status"] == "completed")]
    arms = range(len(study.arms))
    by_arm = completed.groupby("arm")
    took = pd.DataFrame(
        {
            "num_runs": by_arm["train_seconds"].count().reindex(arms, fill_value=0),
            "train_seconds": by_arm["train_seconds"].mean().reindex(arms),
            "train_seconds_min": by_arm["train_seconds"].min().reindex(arms),
            "train_seconds_max": by_arm["train_seconds"].max().reindex(arms),
            "images_per_s": by_arm["images_per_s"].mean().reindex(arms),
            "peak_memory_mib_max": by_arm["peak_memory_mib"].max().reindex(arms),
            "all_runs_seconds": runs.groupby("arm")["seconds"].sum(min_count=1).reindex(arms),
        }
    )
    return [(arm.pose, arm.variant, row) for arm, row in zip(study.arms, took.to_dict("records"), strict=True)]


def _machine_text(device: Any, device_name: Any, threads: Any) -> str:
    return one_line(f"{device} {device_name}") + ("" if pd.isna(threads) else f", threads a run: {threads:g}")
