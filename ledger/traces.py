"""What trackers' markers and Optuna's journals know of runs and studies that were here, whatever became of them."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ledger.forms import is_key
from ledger.markers import TRACKERS, read_marker

JOURNAL = "optuna.log"
KEPT = ("completed", "pruned")
"""How a run ended that no command takes out of the ledger; RETRY=1 makes the others again."""


class Traces:
    """Read at once, before the ledger is: what is taken out later was there, and what is added later is not missed.

    groups: by the runs' keys, the study that each was made for, or the group of single runs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.groups = {
            entry.name: marker["group"]
            for tracker in reversed(TRACKERS)
            for entry in (root / tracker / "logged").glob("*")
            if is_key(entry.name) and (marker := read_marker(root, entry.name, tracker))
        }
        self._told = {key for journal in (root / "studies").glob(f"*/{JOURNAL}") for key in _told(journal)}

    def studies(self) -> set[str]:
        """Names of the studies that runs were made for."""
        return {group for group in self.groups.values() if is_key(group)}

    def keys(self) -> set[str]:
        """Runs that were made and not taken out to be made again: the marker would be gone, too."""
        return self._told.union(key for key in self.groups if any(self._root.glob(f"*/logged/{key}")))


def _told(journal: Path) -> Iterator[str]:
    """Keys of runs whose results a study has seen: its journal has a line for each thing that was said of a trial."""
    trials: dict[Any, dict[str, Any]] = {}
    try:
        lines = journal.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        if b'"user_attr"' in line:
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                entry = json.loads(line)
                trials.setdefault(entry["trial_id"], {}).update(entry["user_attr"])
    for trial in trials.values():
        if trial.get("status") in KEPT and is_key(key := trial.get("run")):
            yield key
