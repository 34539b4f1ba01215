"""What is known of each run's replay to a tracker: `<ledger>/wandb/logged/<key>`, one small JSON file a run.

Those of trackio are in `<ledger>/trackio/logged`.

A damaged marker does not count: its run is replayed again, which doubles nothing, as the run's id is its key.
"""

import json
from pathlib import Path
from typing import Any, TypedDict, cast

from ledger.files import write_atomically
from ledger.ledger import Ledger
from ledger.listed import keys_of

TRACKERS = ("wandb", "trackio")
"""Those that log runs, as their folders in the ledger are called."""
SINGLE_RUNS = ("stn-bench", "single runs")
"""Project and group of runs that belong to no study."""


class Job(TypedDict):
    """One run to replay. `again`: also where it was replayed before, as an upload starts from fresh files."""

    key: str
    project: str
    group: str
    tags: list[str]
    again: bool


class Following(Job):
    """One run to show while it trains. run: what its run.json will say, as far as that is known."""

    run: dict[str, Any]


class Marker(TypedDict):
    """That a run was replayed: to what, into which folder or file of the tracker's, and whether it was uploaded."""

    project: str
    group: str
    tags: list[str]
    folder: str
    uploaded: bool


def read_marker(ledger: Path, key: str, tracker: str = "wandb") -> Marker | None:
    """What is known of the run's replay; None if it was not replayed, or not to its end, or the marker is damaged."""
    try:
        marker = json.loads((ledger / tracker / "logged" / key).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    kinds = {"project": str, "group": str, "tags": list, "folder": str, "uploaded": bool}
    if not isinstance(marker, dict) or any(not isinstance(marker.get(name), kind) for name, kind in kinds.items()):
        return None
    return cast(Marker, marker) if all(isinstance(tag, str) for tag in marker["tags"]) else None


def is_uploaded(ledger: Path, key: str) -> bool:
    marker = read_marker(ledger, key)
    return marker is not None and marker["uploaded"]


def job_of(key: str, marker: Marker) -> Job:
    """The run's replay once more, to where it was replayed before."""
    return Job(key=key, project=marker["project"], group=marker["group"], tags=marker["tags"], again=True)


def not_uploaded(ledger: Path) -> list[Job]:
    """The ledger's runs that were replayed to W&B or belong to a study that is logged there, and are not on the server.

    Raises UserError for a study that was damaged.
    """
    of_study, elsewhere = dict[str, Job](), set[str]()
    reader = Ledger(ledger, read_only=True)
    for study in map(reader.read_study, sorted(reader.studies())):
        keys = [key for arm in study["arms"] for key in keys_of(arm)]
        if study.get("tracker", "wandb") != "wandb":
            elsewhere.update(keys)
            continue
        project, group, tags = study["wandb_project"], study["study"], [f"budget {study['budget']}"]
        for key in keys:
            of_study[key] = Job(key=key, project=project, group=group, tags=tags, again=True)
    jobs = []
    for key in sorted(path.parent.name for path in ledger.glob("runs/*/run.json")):
        if key in elsewhere and key not in of_study:  # also where an earlier sweep logged it to W&B
            continue
        if marker := read_marker(ledger, key):
            if not marker["uploaded"]:
                jobs.append(job_of(key, marker))
        elif key in of_study:
            jobs.append(of_study[key])
        elif (ledger / "wandb" / "logged" / key).exists():  # it was replayed, but to what is lost
            project, group = SINGLE_RUNS
            jobs.append(Job(key=key, project=project, group=group, tags=[], again=True))
    return jobs


def write_marker(ledger: Path, key: str, marker: Marker, tracker: str = "wandb") -> None:
    """Whole or not at all."""
    write_atomically(ledger / tracker / "logged" / key, json.dumps(marker).encode())
