"""trackio as a sink (sink.py): a database in `<ledger>/trackio`. The only file that imports trackio.

A run of trackio's own `init` has an id that nobody can choose, and drops what cannot be written. What that stands on
takes our key for the id, writes all rows or none, and says what went wrong. It is not documented, so the project takes
one minor version of trackio only.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.tracking import logged_values
from experiments.tracking.logged_values import Json
from ledger.markers import Following, Job

if TYPE_CHECKING:
    from trackio.sqlite_storage import SQLiteStorage

TRACKIO = Path("trackio")
_ELSEWHERE = ("TRACKIO_", "SPACE_", "HF_TOKEN")
"""How variables begin that have trackio write to a server, or ask one who the user is."""


class TrackioDatabase:
    """A project is a file of the database; a study is a group of its runs."""

    def __init__(self) -> None:
        environment = local_environment(os.environ, TRACKIO.absolute())
        os.environ.clear()
        os.environ.update(environment)
        from trackio.sqlite_storage import SQLiteStorage

        self._storage = SQLiteStorage

    def show(self, following: Following) -> "Rows":
        return Rows(self._storage, following, following["run"], {})

    def write(self, job: Job) -> str:
        """Raises OSError if the run is not there whole afterwards."""
        key = job["key"]
        run, epochs, cost, robustness = logged_values.read_files(Path("runs") / key)
        rows = Rows(self._storage, job, run, cost)
        rows.log(epochs)
        known = {name for row in logged_values.history(epochs) for name in row}
        numbers = {
            name: value
            for name, value in logged_values.summary(run, cost).items()
            if isinstance(value, int | float) and name not in known
        }
        # A run of which there is no row is not there at all: one that failed at once has its number of epochs.
        rows.add([{"epoch": len(epochs), **numbers}, *logged_values.curves(robustness)])
        if self._storage.get_log_count(job["project"], rows.name, run_id=key) != rows.num_rows:
            raise OSError(f"trackio has not all {rows.num_rows} rows")
        return self._storage.get_project_db_path(job["project"]).name


class Rows:
    """One run in the database, in place of what there is of it."""

    def __init__(self, storage: "type[SQLiteStorage]", job: Job, run: Json, cost: Json) -> None:
        self._storage, self._project, self._key = storage, job["project"], job["key"]
        self.name, self.num_rows = logged_values.run_name(run), 0
        self._config = {
            **logged_values.config(run, cost),
            "tags": list(logged_values.tags(run, job["tags"])),
            **{name: run[name] for name in ("status", "error") if run.get(name)},
            "_Group": job["group"],  # as trackio's `init` says it
        }
        storage.delete_run(self._project, self.name, run_id=self._key)

    def log(self, epochs: list[Json]) -> None:
        """Log what is new of the history so far."""
        self.add(logged_values.history(epochs[self.num_rows :]))

    def add(self, rows: list[Json]) -> None:
        steps = range(self.num_rows, self.num_rows + len(rows))
        self._storage.bulk_log(
            project=self._project,
            run=self.name,
            run_id=self._key,
            metrics_list=rows,
            steps=[*steps],
            log_ids=[f"{self._key}-{step}" for step in steps],  # a row of that id is there once
            config=self._config,
        )
        self.num_rows += len(rows)

    def close(self) -> None:
        """Nothing is open between rows."""


def local_environment(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment, in which trackio reads and writes in that folder alone, and asks nobody anything."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_ELSEWHERE) and name != "SYSTEM"}
    return kept | {"TRACKIO_DIR": str(folder), "TRACKIO_STORAGE_MODE": "sqlite", "HF_HUB_OFFLINE": "1"}
