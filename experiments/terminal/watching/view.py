"""What can be seen of a ledger at a moment: runs in progress beside finished ones. Reads only, and needs no torch."""

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median
from typing import Any, NamedTuple

from experiments.terminal.display import run_name, setting_text
from ledger.errors import UserError
from ledger.forms import is_whole
from ledger.ledger import Ledger
from ledger.listed import keys_of
from ledger.sweep_lock import is_held
from ledger.wording import count, duration

NUM_RECENT = 5
"""Finished runs that are shown, the latest."""

Arms = Mapping[tuple[str, str], tuple[Sequence[str], Sequence[str]]]
"""By pose and variant, keys of runs, and what is tuned."""
ALONE: tuple[Sequence[str], Sequence[str]] = (), ("optim.lr", "optim.weight_decay")
"""The same of a run that is in no study."""


@dataclass(frozen=True)
class Run:
    """A run, in progress or finished, in words.

    what: its stage, seed and size of training. setting: its hyper-parameters.
    """

    name: str
    what: str
    setting: str


@dataclass(frozen=True)
class Running(Run):
    """A run in progress.

    curve: accuracy after each epoch, on validation images where there are any, as `part` says. medians: of the
    `num_finished` completed runs of its variant and size, after each epoch. silent_s: since its last epoch, or start.
    """

    epoch: int
    epochs: int
    loss: float | None
    part: str
    curve: tuple[float, ...]
    medians: tuple[float, ...]
    num_finished: int
    silent_s: float

    @property
    def accuracy(self) -> float | None:
        return self.curve[-1] if self.curve else None

    @property
    def median(self) -> float | None:
        """Of the finished runs, at the epoch where this one is."""
        return self.medians[self.epoch - 1] if 0 < self.epoch <= len(self.medians) else None


@dataclass(frozen=True)
class Finished(Run):
    """A finished run. part: which images its accuracy is on."""

    status: str
    part: str
    accuracy: float | None
    seconds: float | None


@dataclass(frozen=True)
class View:
    """A ledger at a moment. state: what is going on, in a sentence. num_runs: of the study; 0 where it is not known.

    recent: of this study, or of none.
    """

    ledger: str
    study: str
    state: str
    num_finished: int
    num_runs: int
    running: tuple[Running, ...]
    recent: tuple[Finished, ...]

    @property
    def share(self) -> float:
        return min(1.0, self.num_finished / self.num_runs) if self.num_runs else 0.0


class _Record(NamedTuple):
    """What of a finished run is shown or compared."""

    run: dict[str, Any]
    curve: tuple[float, ...]
    seconds: float | None


class Watcher:
    """Looks at a ledger again and again; what is finished is read once. study: "" for the one that is at work."""

    def __init__(self, ledger: Ledger, study: str = "") -> None:
        self.ledger, self.study = ledger, study
        self._records: dict[tuple[str, float], _Record | None] = {}
        self._ended: dict[str, float] = {}
        self._ended_ns = 0
        self._manifests: dict[str, tuple[int, dict[str, Any]]] = {}

    def look(self) -> View:
        sweep, marks = self._sweep(), self.ledger.running()
        self._list()
        study = self._choose(str(sweep.get("study", "")))
        manifest = self._manifest(study)
        arms: Arms = {
            (arm["pose"], arm["variant"]): (keys_of(arm), tuple(arm.get("space") or ()))
            for arm in manifest.get("arms", ())
        }
        running = [self._running(key, mark, arms) for key, mark in marks.items()]
        num_finished, num_runs = self._counts(manifest)
        if sweep and sweep.get("study") == study:
            num_finished, num_runs = sweep["num_finished"], sweep["num_runs"]
        others = {key for name in self.ledger.studies() if name != study for key in _listed(self._manifest(name))}
        ended = self._ended.keys() - (others - set(_listed(manifest)))
        latest = sorted(ended, key=self._ended.__getitem__, reverse=True)
        recent = [self._finished(key, arms) for key in latest[:NUM_RECENT]]
        return View(
            ledger=str(self.ledger.root),
            study=study,
            state=self._state(sweep, marks, num_finished, num_runs, manifest),
            num_finished=num_finished,
            num_runs=num_runs,
            running=tuple(running),
            recent=tuple(filter(None, recent)),
        )

    def _sweep(self) -> dict[str, Any]:
        """How far the sweep is; nothing where none makes runs, or another program's file is in its place."""
        sweep = self.ledger.sweep() or {}
        whole, numbers = ("num_finished", "num_runs", "num_workers"), ("left_s", "at")
        fits = all(is_whole(sweep.get(name)) for name in whole) and all(
            _number(sweep.get(name)) is not None for name in numbers
        )
        return sweep if fits else {}

    def _list(self) -> None:
        """Which runs are finished, and when they were put there; only if that may have changed."""
        folder = self.ledger.root / "runs"
        try:
            changed_ns = folder.stat().st_mtime_ns
            if changed_ns == self._ended_ns:
                return
            with os.scandir(folder) as entries:
                self._ended = {e.name: e.stat().st_mtime for e in entries if not e.name.startswith(".")}
            self._ended_ns = changed_ns
        except FileNotFoundError:  # nothing was ever made here, or a run is just being taken out
            pass

    def _choose(self, at_work: str) -> str:
        known = self.ledger.studies()
        return self.study or (at_work if at_work in known else "") or next(iter(known), "")

    def _manifest(self, study: str) -> dict[str, Any]:
        """Read again only if it may have changed; empty for one that is damaged, of which `verify` says more."""
        if not study:
            return {}
        try:
            changed_ns = (self.ledger.root / "studies" / study / "study.json").stat().st_mtime_ns
            if self._manifests.get(study, (0, {}))[0] != changed_ns:
                self._manifests[study] = changed_ns, self.ledger.read_study(study)
            return self._manifests[study][1]
        except (OSError, UserError):
            return {}

    def _counts(self, manifest: Mapping[str, Any]) -> tuple[int, int]:
        """Runs of the study that are finished, and that it is to have; 0 where that is not known yet."""
        listed = _listed(manifest)
        is_open = manifest.get("num_finals") != 0 and any(not arm["finals"] for arm in manifest.get("arms", ()))
        return sum(key in self._ended for key in listed), 0 if is_open else len(listed)

    def _state(
        self, sweep: Mapping[str, Any], marks: Mapping[str, Any], finished: int, runs: int, manifest: Mapping[str, Any]
    ) -> str:
        if sweep:
            left_s = max(0.0, sweep["left_s"] - max(0.0, time.time() - sweep["at"]))
            left = f"about {duration(left_s)} left" if left_s else "nearly done"
            return f"{finished:,} of {count(runs, 'run')}, {count(sweep['num_workers'], 'worker')}, {left}"
        if marks:
            return f"{count(len(marks), 'run')} in progress; {finished:,} of the study's runs are made"
        if is_held(self.ledger.root):
            return "A sweep is preparing, or writes its report; no run is in progress"
        if not manifest:
            return "Idle: no sweep is at work here"
        if runs and finished >= runs:
            return f"Finished: all {count(runs, 'run')} are made; no sweep is at work here"
        return f"Idle: {count(finished, 'run')} made, others are missing; the same command goes on"

    def _running(self, key: str, mark: Mapping[str, Any], arms: Arms) -> Running:
        pose, variant = str(mark.get("pose", "")), str(mark.get("variant", key))
        epoch, epochs = (value if is_whole(value := mark.get(name)) else 0 for name in ("epoch", "epochs"))
        part = "val" if mark.get("val_accuracy") is not None or not epoch else "train"
        curve = mark.get("curve", [mark.get(f"{part}_accuracy")])  # an older version marks the last one alone
        size = mark.get("train_images"), epochs
        keys, tuned = arms.get((pose, variant), ALONE)
        others = [found for other in keys if (found := self._curve(other, size))]
        return Running(
            name=run_name(variant, pose),
            what=_what(mark.get("stage"), mark.get("seed"), *size),
            setting=setting_text(mark, tuned),
            epoch=epoch,
            epochs=epochs,
            loss=_number(mark.get("train_loss")),
            part=part,
            curve=_numbers(curve if isinstance(curve, list) else ()),
            medians=tuple(_medians(others)),
            num_finished=len(others),
            silent_s=self._silent_s(key),
        )

    def _silent_s(self, key: str) -> float:
        try:
            return max(0.0, time.time() - (self.ledger.root / "running" / f"{key}.json").stat().st_mtime)
        except OSError:  # it has just ended
            return 0.0

    def _curve(self, key: str, size: tuple[Any, Any]) -> tuple[float, ...]:
        """That of a completed run of this size, or none."""
        if key not in self._ended or (record := self._record(key)) is None or record.run["status"] != "completed":
            return ()
        protocol = record.run["config"]["protocol"]
        return record.curve if (protocol.get("train_images"), protocol.get("epochs")) == size else ()

    def _record(self, key: str) -> _Record | None:
        """None for a run that is damaged, or of a form of its own."""
        version = key, self._ended[key]  # RETRY=1 makes it anew
        if version not in self._records:
            self._records[version] = self._read(key)
        return self._records[version]

    def _read(self, key: str) -> _Record | None:
        try:
            run, history, cost = (self.ledger.read(key, f"{name}.json") for name in ("run", "history", "cost"))
            curve = [_accuracy(row) for row in history]
            if not {"variant", "pose", "stage", "seed", "protocol", "optim", "model", "policy"} <= run["config"].keys():
                return None
        except (UserError, KeyError, AttributeError):
            return None
        return _Record(run, _numbers(curve), _number(cost.get("seconds")))

    def _finished(self, key: str, arms: Arms) -> Finished | None:
        if (record := self._record(key)) is None:
            return None
        run, result = record.run["config"], record.run.get("result") or {}
        test = _number(result.get("test_accuracy"))
        return Finished(
            name=run_name(run["variant"], run["pose"]),
            what=_what(run["stage"], run["seed"], run["protocol"].get("train_images"), run["protocol"].get("epochs")),
            setting=setting_text(run, arms.get((run["pose"], run["variant"]), ALONE)[1]),
            status=record.run["status"],
            part="val" if test is None else "test",
            accuracy=test if test is not None else _number(result.get("val_accuracy")),
            seconds=record.seconds,
        )


def _listed(manifest: Mapping[str, Any]) -> list[str]:
    """Keys of a study's runs."""
    return [key for arm in manifest.get("arms", ()) for key in keys_of(arm)]


def _medians(curves: Sequence[Sequence[float]]) -> Iterable[float]:
    for column in zip_longest(*curves):
        yield median(value for value in column if value is not None)


def _what(stage: Any, seed: Any, train_images: Any, epochs: Any) -> str:
    size = f"{train_images:,} x {epochs}" if is_whole(train_images) else ""
    return ", ".join(filter(None, (f"{stage} seed {seed}" if stage else "", size)))


def _accuracy(row: Mapping[str, Any]) -> Any:
    return row.get("train_accuracy") if row["val_accuracy"] is None else row["val_accuracy"]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(number for value in values if (number := _number(value)) is not None)
