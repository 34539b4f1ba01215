"""Reads what single runs leave beside run.json: histories, predictions, robustness, maps (docs/ledger.md)."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors
import safetensors.numpy

from analysis.records import Epoch, Study
from ledger.committed import get, is_there, read_committed, read_record
from ledger.errors import UserError


class Predictions(NamedTuple):
    """A final run's answers on the test images that its protocol draws, in the same order for every run of the study.

    label_N, predicted_N: classes. confidence_N: probability of the predicted class; label_probability_N: of the label.
    """

    label_N: npt.NDArray[np.int16]
    predicted_N: npt.NDArray[np.int16]
    confidence_N: npt.NDArray[np.float32]
    label_probability_N: npt.NDArray[np.float32]

    @property
    def correct_N(self) -> npt.NDArray[np.bool_]:
        return self.label_N == self.predicted_N


class Maps(NamedTuple):
    """What a run's transformer does to some of the images, as the closest affine maps, and what the poses ask for.

    theta_HN23: for each head, from output to input coordinates, both in [-1, 1], x first. true_theta_N23: from upright
    to posed coordinates: what a transformer that undoes the pose would choose.
    """

    theta_HN23: npt.NDArray[np.float32]
    true_theta_N23: npt.NDArray[np.float32]


def read_histories(study: Study, keys: Iterable[str]) -> pd.DataFrame:
    """Scores over epochs: `key` and the fields of Epoch; NaN where there is none.

    A run without history.json has no rows. Raises UserError for a file that cannot be understood.
    """
    rows = [(key, *epoch) for key in keys for epoch in epochs_of(study, key)]
    frame = pd.DataFrame.from_records(rows, columns=["key", *Epoch._fields])
    return frame.astype({"epoch": "int64"} | dict.fromkeys(Epoch._fields[1:], "float64"))


def epochs_of(study: Study, key: str) -> list[Epoch]:
    """The epochs of a run; none where it has no history."""
    if key not in study.histories:
        file = study.ledger / "runs" / key / "history.json"
        study.histories[key] = [
            Epoch(get(file, epoch, "epoch", int), *map(epoch.get, Epoch._fields[1:]))
            for epoch in (read_record(file) if is_there(file) else [])
        ]
    return study.histories[key]


def read_robustness(study: Study, keys: Iterable[str]) -> pd.DataFrame:
    """Accuracy over transformed and corrupted test images: a row a run and point.

    Columns: `key`; `kind`: `rotation`, `scale`, `shift_x`, `shift_y`, `geometric` or `photometric` (corruptions);
    `name`: of the corruption, else the kind; `value`: degrees, factor, pixels or severity; `accuracy`; `agreement`
    (share of images whose prediction is that of the untransformed image; NaN for corruptions).
    A run without robustness.json has no rows. Raises UserError for a file that cannot be understood.
    """
    rows: list[tuple[str, str, str, float, float | None, float | None]] = []
    for key in keys:
        file = study.ledger / "runs" / key / "robustness.json"
        if not is_there(file):
            continue
        record = read_record(file)
        for point in get(file, record, "points", list):
            kind, value = get(file, point, "kind", str), point.get("value")
            scores = point.get("accuracy"), point.get("agreement")
            rows.append((key, kind, kind, float(value or 0), *scores))
        for point in get(file, record, "corruptions", list):
            kind, name = (get(file, point, part, str) for part in ("kind", "name"))
            rows.append((key, kind, name, get(file, point, "severity", int), point.get("accuracy"), None))
    frame = pd.DataFrame.from_records(rows, columns=["key", "kind", "name", "value", "accuracy", "agreement"])
    return frame.astype({"value": "float64", "accuracy": "float64", "agreement": "float64"})


def read_worst_of_grid(study: Study, key: str) -> dict[str, float]:
    """What the worst-of-grid accuracy of a run is over: `max_deg`, `max_px`, `num_points`; empty if it has none."""
    file = study.ledger / "runs" / key / "robustness.json"
    return (read_record(file).get("worst_of_grid") or {}) if is_there(file) else {}


def read_predictions(study: Study, key: str) -> Predictions | None:
    """The predictions of a final run; None if it has none. Raises UserError for a file of another form."""
    return _read_arrays(study.ledger / "runs" / key / "predictions.safetensors", Predictions)


def read_maps(study: Study, key: str) -> Maps | None:
    """The maps of a run's transformer; None for a run without. Raises UserError for a file of another form.

    Images whose map holds what is not a number are left out.
    """
    maps = _read_arrays(study.ledger / "runs" / key / "maps.safetensors", Maps)
    if maps is None or np.isfinite(maps.theta_HN23).all():
        return maps
    kept_N = np.isfinite(maps.theta_HN23).all(axis=(0, 2, 3))
    return Maps(maps.theta_HN23[:, kept_N], maps.true_theta_N23[kept_N]) if kept_N.any() else None


_Arrays = TypeVar("_Arrays", Predictions, Maps)


def _read_arrays(file: Path, kind: type[_Arrays]) -> _Arrays | None:
    if not is_there(file):
        return None
    content = read_committed(file)
    try:
        found = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    names = [name.rpartition("_")[0] for name in kind._fields]
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"{file}: {missing[0]!r} is missing")
    return kind(*(found[name] for name in names))
