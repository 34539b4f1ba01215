"""`export`: hand a final run over."""

from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console

from experiments.runs.export import MAX_DIFFERENCE, export
from experiments.runs.trained import load_trained
from experiments.terminal.commands.ledgers import existing_ledger
from experiments.terminal.display import print_place, say_to


def main(options: Namespace) -> int:
    console = Console()
    trained = load_trained(existing_ledger(options), options.run)
    out = options.out or Path("exports") / trained.key
    files = export(trained, out)
    accuracy = trained.record["result"]["test_accuracy"]
    say_to(console)(f"{trained.variant} on {trained.record['task']['label']}, test accuracy {accuracy:.1%}")
    console.print(f"model.pt2 gives the network's own probabilities within {MAX_DIFFERENCE:g}.", highlight=False)
    print_place(console, "Exported", str(out), ", ".join(file.name for file in files), "README.md says how to load it")
    return 0
