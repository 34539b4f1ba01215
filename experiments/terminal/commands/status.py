"""`status`: show the ledger."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any

from jsonargparse import Namespace
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.terminal.commands.ledgers import existing_ledger
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import winners_of
from ledger.plain_text import as_markup
from ledger.started import program
from ledger.wording import count


def main(options: Namespace) -> int:
    """Show the ledger; a study whose manifest is damaged is left out, and stderr says so."""
    ledger = existing_ledger(options)
    statuses = {key: status_of(ledger, key) for key in ledger.folders()}
    num_damaged = sum(status in ("damaged", "unreadable") for status in statuses.values())
    studies, is_damaged = [], num_damaged > 0
    for name in ledger.studies():
        try:
            manifest = ledger.read_study(name)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
            is_damaged = True
            continue
        arms = []
        for arm in manifest["arms"]:
            keys = {"trials": arm["trials"], "finals": [*arm["finals"], *chain(*arm.get("rungs", ()))]}
            counts = {name: Counter(statuses.get(key, "missing") for key in keys[name]) for name in keys}
            arms.append({"pose": arm["pose"], "variant": arm["variant"], "winners": winners_of(arm), **counts})
        about = {key: manifest[key] for key in ("budget", "protocol_hash", "num_trials", "num_finals")}
        if manifest.get("tuning") == "per_seed":
            about["num_trials"] *= manifest["num_finals"]
        about["num_finals"] *= 1 + len(manifest.get("rungs", ()))
        studies.append({"study": name, "task": manifest["task"]["label"], **about, "arms": arms})
    report = {
        "ledger": str(ledger.root),
        "num_runs": len(statuses) - num_damaged,
        "is_damaged": is_damaged,
        "studies": studies,
        "running": ledger.running(),
    }
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_status(Console(), report)
    return 0


def status_of(ledger: Ledger, key: str) -> str:
    """How a run ended; `damaged` where its run.json does not count, or is that of another run, or gone.

    `unreadable` where it may not be read, as in another user's folder: what became of the run is not known then.
    """
    try:
        return str(ledger.read(key)["status"])
    except UserError as error:
        return "unreadable" if isinstance(error.__cause__, PermissionError) else "damaged"


def print_status(console: Console, report: Mapping[str, Any]) -> None:
    """The ledger's studies and the runs in progress."""
    ledger, num_runs = as_markup(report["ledger"]), count(report["num_runs"], "finished run")
    console.print(f"Ledger {ledger}: {num_runs}", highlight=False, soft_wrap=True)
    for study in report["studies"]:
        table = Table(box=box.SIMPLE_HEAD, title=as_markup(f"{study['study']}: {study['task']}"), title_justify="left")
        for column in ("pose", "variant", "trials", "final runs"):
            table.add_column(column)
        for arm in study["arms"]:
            trials = status_counts(arm["trials"], max(study["num_trials"], sum(arm["trials"].values())))
            finals = status_counts(arm["finals"], study["num_finals"])
            table.add_row(*map(as_markup, (arm["pose"], arm["variant"], trials, finals)))
        console.print(table)
    for key, progress in report["running"].items():
        variant, stage, seed, epoch, epochs = map(progress.get, ("variant", "stage", "seed", "epoch", "epochs"))
        line = f"running {key}  {variant} {stage} seed {seed}  epoch {epoch}/{epochs}"
        console.print(as_markup(line), highlight=False)
    if not report["running"]:
        console.print("No run is in progress.")
    if report["is_damaged"]:
        then = f"`{program()} verify {ledger}` reads everything"
        line = f"Something is damaged or cannot be read. status reads only run.json: {then}"
        console.print(line, highlight=False, soft_wrap=True)


def status_counts(counts: Mapping[str, int], planned: int) -> str:
    """Such as `3/5: 2 completed, 1 failed`."""
    done = {status: number for status, number in counts.items() if status != "missing"}
    parts = ", ".join(f"{number} {status}" for status, number in done.items())
    return f"{sum(done.values())}/{planned}{parts and ': '}{parts}"
