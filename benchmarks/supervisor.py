"""What the supervisor of a large sweep takes for each run, and whether that grows with their number.

`python -m benchmarks.supervisor` carries out studies of 625 to 10,000 runs that take no time, each in a process of its
own (benchmarks/simulated_cluster.py). W&B is left out: its files are written by another process.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.remote import Remote
from benchmarks.report import Measurement, print_load, print_note, print_table
from benchmarks.simulated_cluster import MEDIAN_S, RUNS_OF_ARM, STARTS, Simulation
from ledger.errors import UserError
from ledger.plain_text import print_anything

FULL, QUICK = (625, 1250, 2500, 5000, 10000), (25, 50)
TABLES = (
    {
        "own CPU, ms": "{own_cpu_ms:.1f}",
        "× linear": "{own_cpu_ratio:.2f}",
        "own wall, ms": "{own_ms:.1f}",
        "commit, ms": "{commit_ms:.1f}",
        "runs/s": "{runs_per_s_with_commits:.0f}",
    },
    {
        **{f"{name} start, s": f"{{{name}_start_s:.1f}}" for name in STARTS},
        "× linear": "{full_start_ratio:.2f}",
        "peak MiB": "{peak_memory_mib:,.0f}",
    },
)
"""Headings, and what stands below them."""
NOTE = (
    "Own: what the supervisor itself takes for each run that ends: search, progress, journal, manifest and reading "
    "what the run came to; CPU of the processor, wall with waiting for the disk. Commit: to mark a run and to put it "
    "into the ledger, flushed, as the supervisor of a cluster does besides. Runs/s: at which own and commit take all "
    "the time. Starts: with an empty ledger (speed is not measured), with half of the runs and with all. × linear: own "
    "CPU a run, and the last start a run, over those of the first line. {workers} workers, whose runs take "
    "{median_s:g} s of simulated time, in the median."
)


def measure(sizes: Sequence[int], workers: int, folder: Path | None) -> list[dict[str, Any]]:
    """A study of each size with its progress in a terminal, then the middle one's in a file.

    folder: for the ledgers, which are deleted; None for the system's. Ratios: what each run costs over what it costs in
    the first study.
    """
    studies = list[dict[str, Any]]()
    for num_runs, terminal in [*((size, True) for size in sizes), (sizes[len(sizes) // 2], False)]:
        with (
            tempfile.TemporaryDirectory(prefix="stn-bench-", dir=folder) as scratch,
            Remote(Simulation, Path(scratch), num_runs, workers, terminal) as simulation,
        ):
            study = simulation.call("measure")
        first = studies[0] if studies else study
        scale = study["num_runs"] / first["num_runs"]
        study["own_cpu_ratio"] = round(study["own_cpu_ms"] / first["own_cpu_ms"], 2)
        study["full_start_ratio"] = round(study["full_start_s"] / first["full_start_s"] / scale, 2)
        studies.append(study)
    return studies


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """The report as tables."""
    print_load(console, report["load_average_before"])
    for columns in TABLES:
        rows = [
            (f"{study['num_runs']:,}{'' if study['terminal'] else '*'}", *(c.format(**study) for c in columns.values()))
            for study in report["studies"]
        ]
        print_table(console, ("runs", *columns), rows)
    print_note(console, "* Without a terminal: a line for each run, and no bar.")
    print_note(console, NOTE.format(workers=f"{report['num_workers']:,}", median_s=MEDIAN_S))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.supervisor", description=__doc__)
    some = f"in multiples of {RUNS_OF_ARM}; default: {' '.join(map(str, FULL))}"
    parser.add_argument("--runs", type=int, nargs="+", help=f"sizes of the studies, the smallest first, {some}")
    parser.add_argument("--workers", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="on whose disk the ledgers are; default: that of temporary files")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--quick", action="store_true", help="two tiny studies, to see that it works")
    for stream in (sys.stdout, sys.stderr):
        print_anything(stream)
    options = parser.parse_args(arguments)
    sizes = options.runs or (QUICK if options.quick else FULL)
    if any(size < 1 or size % RUNS_OF_ARM for size in sizes):
        parser.error(f"--runs: {' '.join(map(str, sizes))}: each must be a multiple of {RUNS_OF_ARM}")
    if options.workers < 1:
        parser.error(f"--workers: {options.workers} is less than 1")
    if options.folder and not options.folder.is_dir():
        parser.error(f"--folder: {options.folder} is not a folder")
    try:
        measurement = Measurement(options.out, quick=options.quick)
    except UserError as error:
        parser.error(str(error))
    studies = measure(sizes, options.workers, options.folder)
    measurement.finish(print_report, torch.device("cpu"), {}, {"num_workers": options.workers, "studies": studies})
    return 0


if __name__ == "__main__":
    sys.exit(main())
