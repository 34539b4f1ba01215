"""`status`: show the ledger."""

import json
import sys

from jsonargparse import Namespace
from rich.console import Console

from experiments.terminal.commands.ledgers import existing_ledger
from experiments.terminal.display import (
    print_status,
)
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import winners_of


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
            counts: dict[str, dict[str, int]] = {}
            for stage in ("trials", "finals"):
                counts[stage] = {}
                for key in (*arm[stage], *(key for rung in arm.get("rungs", ()) if stage == "finals" for key in rung)):
                    found = statuses.get(key, "missing")
                    counts[stage][found] = counts[stage].get(found, 0) + 1
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
