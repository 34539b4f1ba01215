"""Where runs are logged: the one interface, of which W&B (replay.py) and trackio (trackio_database.py) are two kinds.

What is common to both is in front of it: training leaves marks and files in the ledger and waits for nobody; tracker.py
hands keys on; replayer.py and live.py are processes in which alone a sink works, so that its faults stay there.
"""

import importlib.util
from collections.abc import Mapping
from typing import Literal, Protocol

from experiments.tracking.logged_values import Json
from experiments.tracking.settings import Mode
from experiments.tracking.tracker import find_mode
from ledger.errors import UserError
from ledger.markers import Following, Job

TrackerName = Literal["wandb", "trackio", "none"]
"""As the sweep file has it."""


class Shown(Protocol):
    """A run that trains."""

    def log(self, epochs: list[Json]) -> None:
        """Log what is new of its history so far."""

    def close(self) -> None:
        """No more is logged of it."""


class Sink(Protocol):
    """The working directory is the ledger. Whatever is raised ends a process that nobody waits for, or is reported."""

    def show(self, following: Following) -> Shown:
        """Begin to show a run, in place of anything that is there of it and was not finished."""

    def write(self, job: Job) -> str:
        """Log a finished run whole, in place of anything that is there; returns its file or folder in the sink's."""


def sink_of(tracker: str, agent: Mapping[str, str], *, online: bool) -> Sink:
    """The sink of that name; this imports its library."""
    if tracker == "trackio":
        from experiments.tracking.trackio_database import TrackioDatabase

        return TrackioDatabase()
    from experiments.tracking.replay import WandbFiles

    return WandbFiles(agent, online=online)


def find_place(tracker: TrackerName, wandb_mode: str) -> tuple[Mode, str]:
    """Whether and how a study's runs are logged, and why so, or "" where that is plain.

    Raises UserError for a tracker that is not installed, and as `find_mode` does.
    """
    if tracker == "none":
        return "disabled", "as the study file says"
    if tracker == "wandb":
        return find_mode(wandb_mode)
    check_installed(tracker)
    return "offline", ""


def check_installed(tracker: str) -> None:
    """Raises UserError for a tracker whose library is not here."""
    if importlib.util.find_spec(tracker) is None:
        raise UserError(f"tracker: {tracker} is not installed; pip install 'stn-bench[{tracker}]'")
