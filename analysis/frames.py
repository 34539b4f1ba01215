"""A whole ledger as data frames, for a notebook: `analysis.load("runs")`."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.numpy

from analysis.run_records import cost_row, run_row
from ledger.committed import get, is_there, read_committed, read_record, who_knows
from ledger.config import whole_protocol
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import winners_of

STAGES = ("trial", "rung", "final")
RUN = ["key", "variant", "pose", "test_pose", "stage", "task", "protocol_hash", "status", "error", "seed"]
STUDY = ["study", "key", "task", "budget", "pose", "variant", "baseline", "stage", "won"]
PREDICTIONS = ["key", "image", "label", "predicted", "confidence", "label_probability"]
HISTORY = ["key", "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]


class Frames:
    """A ledger's runs and what is known of each, as tables that `key` joins.

    Each is read when it is first asked for. Reading raises UserError (a ValueError of one line) for a file that was
    damaged, was edited, or is of a newer version.
    """

    def __init__(self, root: Path, keys: Sequence[str] | None = None) -> None:
        """keys: those of the runs that are asked for; all that are there if not given."""
        if not (root / "runs").is_dir():
            raise UserError(f"runs: there is no ledger at {root}")
        self._ledger = Ledger(root, read_only=True)
        self._keys = [key for key in (self._ledger.folders() if keys is None else keys) if key in self._ledger]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each run: `key`, `variant`, `pose`, `test_pose`, `stage`, `seed`, `task`, `status`, scores, costs.

        Settings have a dot in their name: `optim.lr`, `protocol.epochs`. What a run does not have is missing.
        """
        return pd.DataFrame.from_records(list(map(self._run, self._keys)), columns=None if self._keys else RUN)

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row for each epoch of each run: `key`, `epoch`, learning rate, losses, accuracies."""
        rows: list[dict[str, Any]] = []
        for key in self._keys:
            rows += ({"key": key, **row} for row in self._ledger.read(key, "history.json"))
        return pd.DataFrame.from_records(rows, columns=None if rows else HISTORY)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """A row for each test image of each final run: `key`, `image`, `label`, `predicted`, `confidence`, ..."""
        paths = {key: self._ledger.folder(key) / "predictions.safetensors" for key in self._keys}
        parts = {key: _arrays(path) for key, path in paths.items() if is_there(path)}
        if not parts:
            return pd.DataFrame(columns=PREDICTIONS)
        rows = pd.concat(parts.values(), keys=range(len(parts)), names=["key", "image"]).reset_index()
        keys = pd.Categorical.from_codes(rows["key"].to_numpy(), pd.Index(list(parts)))  # there may be millions of rows
        return rows.assign(key=keys)

    @cached_property
    def studies(self) -> pd.DataFrame:
        """A row for each run that a study lists, made or not; `won`: whether its setting was taken."""
        rows = [row for study in sorted(self._ledger.studies()) for row in self._listed(study)]
        return pd.DataFrame.from_records(rows, columns=STUDY)

    def _run(self, key: str) -> dict[str, Any]:
        file = self._ledger.folder(key) / "run.json"
        record = read_record(file)
        config = get(file, record, "config", dict)
        row = {"key": key, **{name: config.get(name) for name in ("variant", "pose", "test_pose", "stage")}}
        row |= {"task": get(file, record, "task.label", str), "protocol_hash": record.get("protocol_hash")}
        row |= run_row(file, record) | cost_row(file.with_name("cost.json"))
        protocol = whole_protocol(get(file, record, "config.protocol", dict))
        return row | {f"protocol.{name}": value for name, value in protocol.items()}

    def _listed(self, study: str) -> Iterator[dict[str, Any]]:
        manifest = self._ledger.read_study(study)
        about = {"study": study, "task": manifest["task"]["label"], "budget": manifest["budget"]}
        for arm in manifest["arms"]:
            about |= {name: arm.get(name) for name in ("pose", "variant", "baseline")}
            rungs = [key for rung in arm.get("rungs", ()) for key in rung]
            for stage, keys in zip(STAGES, (arm["trials"], rungs, arm["finals"]), strict=True):
                yield from ({**about, "key": key, "stage": stage, "won": key in winners_of(arm)} for key in keys)


def _arrays(path: Path) -> pd.DataFrame:
    try:
        return pd.DataFrame(safetensors.numpy.load(read_committed(path)))
    except (safetensors.SafetensorError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be opened ({type(error).__name__}); {who_knows(path)}") from None
