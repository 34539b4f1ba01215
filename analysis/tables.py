"""Writes a study's tables: ablation.* says what came out, transformer.* what transformers did, times.* what it took.

Times differ between repetitions of the same study, so they lie in files of their own; the bytes of the other files
depend on study.json and the run.json files alone.
"""

from collections.abc import Hashable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.ablation import Ablation, FinalRun, Row, ablation, status_text, study_ablation
from analysis.diagnostics import diagnostics_csv, diagnostics_markdown, study_diagnostics
from analysis.formats import (
    ABSENT,
    TextTable,
    Value,
    csv_table,
    latex_tabular,
    latex_text,
    markdown_table,
    markdown_text,
    one_line,
)
from analysis.records import COSTS, Study, read_study
from analysis.reports import write_files

__all__ = ["Ablation", "ablation", "write_tables"]


def write_tables(ledger: Path, study: str, out: Path) -> list[Path]:
    """Write ablation.md, ablation.tex, ablation.csv, times.md and times.csv into `out`; returns their paths.

    Also transformer.md and transformer.csv if a run has a record of its transformer; without one, they are deleted.
    Raises AnalysisError (a ValueError of one line) if the study cannot be read or `out` cannot be written.
    """
    record = read_study(ledger, study)
    table = study_ablation(record)
    times = _times(record)
    files = {
        "ablation.md": ablation_markdown(table),
        "ablation.tex": ablation_latex(table),
        "ablation.csv": ablation_csv(table),
        "times.md": _times_markdown(record, times),
        "times.csv": _times_csv(times),
    }
    looks = study_diagnostics(record)
    if looks:
        files |= {"transformer.md": diagnostics_markdown(looks), "transformer.csv": diagnostics_csv(looks)}
    content = {name: text.encode() for name, text in files.items()}
    return write_files(out, content, optional=("transformer.md", "transformer.csv"))


def ablation_markdown(table: Ablation) -> str:
    """The table for people: a section a pose, the notes, the winners' hyper-parameters, the runs behind each row."""
    parts = [f"# {markdown_text(table.title)}\n"]
    for section in table.sections:
        if len(table.sections) > 1:
            parts.append(f"## Pose {markdown_text(section.pose)}\n")
        parts.append(markdown_table(section.table))
    parts.append("".join(f"- {markdown_text(note)}\n" for note in table.notes))
    parts += ["## Hyper-parameters\n", markdown_table(table.hyper_parameters)]
    runs = "".join(f"- {markdown_text(place)}: {_runs_text(row)}\n" for place, row in _places(table))
    parts += ["## Runs\n", runs]
    return "\n".join(parts)


def ablation_latex(table: Ablation) -> str:
    """A table environment for pdflatex; it needs the packages booktabs and graphicx."""
    several = len(table.sections) > 1
    sections = [(f"Pose {section.pose}" if several else "", section.table) for section in table.sections]
    label = "".join(c if c.isascii() and c.isalnum() else "-" for c in table.study)
    lines = ["% \\usepackage{booktabs} \\usepackage{graphicx}", f"% {one_line(table.title)}: runs behind each row"]
    lines += [f"% {one_line(place)}: {one_line(_runs_text(row, quote=''))}" for place, row in _places(table)]
    lines += [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{latex_text(table.title)}.}}",
        f"\\label{{tab:{label}}}",
        "\\setlength{\\tabcolsep}{4pt}",
    ]
    for _, alike in groupby(sections, key=lambda section: section[1].columns):
        lines += [
            "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
            latex_tabular(list(alike)) + "%",
            "}",
            "\\par\\medskip",
        ]
    lines += [
        "\\begin{minipage}{\\linewidth}\\footnotesize",
        *map(latex_text, table.notes),
        "The keys of the runs behind each row are comments in this table's source.",
        "\\end{minipage}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def ablation_csv(table: Ablation) -> str:
    """One line a row, accuracies as fractions; run_keys are the runs that the means are over."""
    columns = (
        "study",
        "task",
        "task_hash",
        "protocol_hash",
        "pose",
        "variant",
        "baseline",
        *_mean_columns("val_accuracy"),
        *_mean_columns("test_accuracy"),
        *_mean_columns("difference"),
        "difference_excludes_zero",
        "gap_closed",
        "gap_closed_low",
        "gap_closed_high",
        "num_parameters",
        "train_flops",
        "final_runs",
        "trials",
        "run_keys",
        "other_run_keys",
        "winner_key",
    )
    rows = [
        (
            table.study,
            table.task_label,
            table.task_hash,
            table.protocol_hash,
            row.pose,
            row.variant,
            row.baseline,
            *row.val_accuracy,
            *row.test_accuracy,
            *(row.difference or (None, None, None)),
            row.difference.excludes_zero if row.difference and row.difference.num > 1 else None,
            *(row.gap_closed[:3] if row.gap_closed else (None, None, None)),
            row.num_parameters,
            row.train_flops,
            status_text(row.final_statuses),
            status_text(row.trial_statuses),
            " ".join(run.key for run in row.finals if run.averaged),
            " ".join(f"{run.key}:{run.status}" for run in row.finals if not run.averaged),
            row.winner,
        )
        for row in table.rows
    ]
    return csv_table(columns, rows)


def _mean_columns(name: str) -> tuple[str, str, str]:
    return name, f"{name}_half_width", f"{name}_num_{'pairs' if name == 'difference' else 'seeds'}"


def _places(table: Ablation) -> Iterator[tuple[str, Row]]:
    several = len(table.sections) > 1
    for row in table.rows:
        yield (f"{row.variant} at pose {row.pose}" if several else row.variant), row


def _runs_text(row: Row, quote: str = "`") -> str:
    """The keys behind a row, in Markdown by default. quote: what encloses a key."""
    averaged = ", ".join(f"{quote}{run.key}{quote} (seed {run.seed})" for run in row.finals if run.averaged)
    text = f"final runs {averaged}" if averaged else "no completed final run"
    others = ", ".join(_other_run_text(run, quote) for run in row.finals if not run.averaged)
    text += f"; not averaged: {others}" if others else ""
    return text + (f"; winning trial {quote}{row.winner}{quote}" if row.winner else "")


def _other_run_text(run: FinalRun, quote: str) -> str:
    seed = "" if run.seed is None else f"seed {run.seed}, "
    error = ""
    if run.error:
        error = one_line(run.error)
        error = ": " + (error if len(error) <= 200 else error[:199] + "…")
    return f"{quote}{run.key}{quote} ({seed}{run.status}{markdown_text(error) if quote else error})"


_TIME_COLUMNS = ("Variant", "n", "Training s a run", "shortest", "longest", "Images/s", "Peak MiB", "All runs s")


Took = dict[Hashable, float]


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


def _times_csv(times: list[tuple[str, str, Took]]) -> str:
    names = map(str, times[0][2])
    rows: list[tuple[Value, ...]] = [(pose, variant, *took.values()) for pose, variant, took in times]
    return csv_table(("pose", "variant", *names), rows)


def _times_markdown(study: Study, times: list[tuple[str, str, Took]]) -> str:
    several = len(study.arms) > len({arm.variant for arm in study.arms})
    rows = []
    for pose, variant, took in times:
        num_runs, *costs = took.values()
        texts = (ABSENT if np.isnan(cost) else f"{cost:,.{0 if cost >= 100 else 1}f}" for cost in costs)
        name = f"{variant} at pose {pose}" if several else variant
        rows.append((one_line(name), f"{num_runs:.0f}", *texts))
    measured = study.runs[study.runs[list(COSTS)].notna().any(axis=1)]
    machines = measured[["device", "device_name", "threads"]].drop_duplicates().itertuples(index=False)
    machines_text = sorted({_machine_text(*machine) for machine in machines})
    versions = sorted({one_line(text) for text in measured["versions"].dropna()})
    notes = [
        "Means over completed final runs (n); peak memory is the largest. The last column is the sum over trials and "
        "final runs. Times are measured anew in each repetition and are no part of the ablation table.",
        f"Measured on {'; '.join(machines_text) or 'no machine yet'}.",
        *(f"Versions: {text}." for text in versions),
    ]
    table = markdown_table(TextTable(_TIME_COLUMNS, "l" + "r" * (len(_TIME_COLUMNS) - 1), tuple(rows)))
    title = markdown_text(f"Times on {study.task_label}")
    return "\n".join([f"# {title}\n", table, "".join(f"- {markdown_text(note)}\n" for note in notes)])


def _machine_text(device: Any, device_name: Any, threads: Any) -> str:
    return one_line(f"{device} {device_name}") + ("" if pd.isna(threads) else f", threads a run: {threads:g}")
