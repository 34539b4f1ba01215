"""What the runs took: the one table that differs between repetitions of the same study."""

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from analysis.findings import Findings
from analysis.formats import Cell, one_line
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, Column, Draft, section
from ledger.scores import COSTS

_COSTS = {
    "train_seconds": "Training s a run",
    "train_seconds_min": "shortest",
    "train_seconds_max": "longest",
    "images_per_s": "Images/s",
    "peak_memory_mib_max": "Peak MiB",
    "all_runs_seconds": "All runs s",
}


class Took(NamedTuple):
    """What an arm's completed final runs took, by name; NaN where no run has that cost. keys: of these runs."""

    pose: str
    variant: str
    num_runs: int
    costs: dict[Hashable, float]
    keys: tuple[str, ...]


@table("times", "Times")
def times(findings: Findings) -> Draft[Took]:
    """One section, a row an arm."""
    study = findings.study
    several = len(study.arms) > len({arm.variant for arm in study.arms})
    columns: list[Column[Took]] = [
        POSE,
        Column("Variant", "", "l", lambda row: f"{row.variant} at pose {row.pose}" if several else row.variant),
        Column("", "variant", value=lambda row: row.variant),
        Column("n", "num_runs", "r", lambda row: row.num_runs),
        *(_cost_column(name, heading) for name, heading in _COSTS.items()),
        RUN_KEYS,
    ]
    rows = list(_times(findings))
    measured = study.runs[study.runs[[score.name for score in COSTS]].notna().any(axis=1)]
    machines = measured[["device", "device_name", "threads"]].drop_duplicates().itertuples(index=False)
    machines_text = sorted({_machine_text(*machine) for machine in machines})
    versions = sorted({one_line(text) for text in measured["versions"].dropna()})
    notes = (
        "Means over completed final runs (n); peak memory is the largest. The last column is the sum over trials and "
        "final runs. Times are measured anew in each repetition and are no part of the other tables.",
        f"Measured on {'; '.join(machines_text) or 'no machine yet'}.",
        *(f"Versions: {text}." for text in versions),
    )
    return Draft([section("", columns, rows)], notes, columns, rows)


def _cost_column(name: str, heading: str) -> Column[Took]:
    def cell(row: Took) -> Cell | None:
        cost = row.costs[name]
        return None if pd.isna(cost) else Cell(f"{cost:,.{0 if cost >= 100 else 1}f}", cost)

    return Column(heading, name, "r", cell)


def _times(findings: Findings) -> Iterator[Took]:
    """A row an arm."""
    study, by_arm = findings.study, findings.completed.groupby("arm")
    took = by_arm.agg(
        train_seconds=("train_seconds", "mean"),
        train_seconds_min=("train_seconds", "min"),
        train_seconds_max=("train_seconds", "max"),
        images_per_s=("images_per_s", "mean"),
        peak_memory_mib_max=("peak_memory_mib", "max"),
    )
    took = took.reindex(range(len(study.arms)))
    took["all_runs_seconds"] = study.runs.groupby("arm")["seconds"].sum(min_count=1)
    num_runs, keys = by_arm["train_seconds"].count(), by_arm["key"].agg(tuple)
    for i, (arm, costs) in enumerate(zip(study.arms, took.to_dict("records"), strict=True)):
        yield Took(arm.pose, arm.variant, int(num_runs.get(i, 0)), costs, keys.get(i, ()))


def _machine_text(device: Any, device_name: Any, threads: Any) -> str:
    return one_line(f"{device} {device_name}") + ("" if pd.isna(threads) else f", threads a run: {threads:g}")
