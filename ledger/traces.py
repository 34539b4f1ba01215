"""What W&B's markers and Optuna's journals know of runs and studies that were in a ledger, whatever became of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger.forms import is_key
from ledger.markers import SINGLE_RUNS, read_marker

JOURNAL = "optuna.log"
KEPT = ("completed", "pruned")
"""How a run ended that no command takes out of the ledger; RETRY=1 makes the others again."""


class Traces:
    """Read at once, before the ledger is: what is taken out later was there, and what is added later is not missed.

    groups: by the runs' keys, the study that each was made for, or `single_runs`. told: by the studies' names, runs
    whose results the study has seen.
    """

    single_runs = SINGLE_RUNS[1]

    def __init__(self, root: Path) -> None:
        self._root = root
        self.groups = dict(_groups(root))
        journals = sorted((root / "studies").glob(f"*/{JOURNAL}"))
        self.told = {journal.parent.name: set(_told(journal)) for journal in journals}

    def studies(self) -> set[str]:
        """Names of the studies that runs were made for."""
        return {group for group in self.groups.values() if is_key(group)}

    def keys(self) -> set[str]:
        """Of runs that were made, and that nobody has taken out to make them again: the marker would be gone, too."""
        marked = {key for key in self.groups if (self._root / "wandb" / "logged" / key).exists()}
        return marked.union(*self.told.values())


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    for entry in (root / "wandb" / "logged").glob("*"):
        if is_key(entry.name) and (marker := read_marker(root, entry.name)):
            yield entry.name, marker["group"]


def _told(journal: Path) -> Iterator[str]:
    """A journal has a line for each thing that was said of a trial: the key of its run, and how that ended."""
    trials: dict[Any, dict[str, Any]] = {}
    try:
        lines = journal.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        if b'"user_attr"' not in line:
            continue
        try:
            entry = json.loads(line)
            trials.setdefault(entry["trial_id"], {}).update(entry["user_attr"])
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    for trial in trials.values():
        key = trial.get("run")
        if trial.get("status") in KEPT and isinstance(key, str) and is_key(key):
            yield key
