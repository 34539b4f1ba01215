"""`status`: show the ledger."""

import json

from jsonargparse import Namespace
from rich.console import Console

from experiments.commands.ledgers import existing_ledger
from experiments.display import (
    print_status,
)


def main(options: Namespace) -> int:
    """Show the ledger."""
    ledger = existing_ledger(options)
    studies = []
    for name in ledger.studies():
        manifest = ledger.read_study(name)
        arms = []
        for arm in manifest["arms"]:
            counts: dict[str, dict[str, int]] = {}
            for stage in ("trials", "finals"):
                counts[stage] = {}
                for key in arm[stage]:
                    found = ledger.read(key)["status"] if key in ledger else "missing"
                    counts[stage][found] = counts[stage].get(found, 0) + 1
            arms.append({"pose": arm["pose"], "variant": arm["variant"], "winner": arm["winner"], **counts})
        about = {key: manifest[key] for key in ("budget", "protocol_hash", "num_trials", "num_finals")}
        studies.append({"study": name, "task": manifest["task"]["label"], **about, "arms": arms})
    report = {"ledger": str(ledger.root), "num_runs": len(ledger), "studies": studies, "running": ledger.running()}
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_status(Console(), report)
    return 0
