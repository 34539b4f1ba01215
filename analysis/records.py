"""Reads a study out of the ledger: one row a run, finished or not. docs/architecture.md describes the files."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError, nearest

NEWEST_FORMAT = 2
"""The newest format of run.json and study.json that these functions understand; they read all older ones."""

SCORES = (
    "epochs",
    "num_train_images",
    "num_val_images",
    "num_test_images",
    "num_parameters",
    "train_flops",
    "val_accuracy",
    "val_loss",
    "test_accuracy",
    "test_loss",
)
COSTS = ("train_seconds", "seconds", "images_per_s", "peak_memory_mib")
MACHINE = ("device", "device_name", "threads")
TRANSFORMER = (
    "num_images",
    "identity_fraction",
    "out_of_frame",
    "condition",
    "zoom",
    "angle_deg",
    "angle_sd_deg",
    "spread_px",
)
"""Numbers of a run's transformer; their columns are `transformer.zoom`, ... beside `transformer.verdict` (text)."""

TRANSFORMER_POSE = ("angle_error_deg", "angle_r2", "log_scale_r2", "shift_r2", "shift_error_px")
"""What the transformer found of the true pose, where images differ in it; `transformer.angle_r2`, ..."""

TRANSFORMER_COLUMNS = tuple(f"transformer.{name}" for name in (*TRANSFORMER, *TRANSFORMER_POSE))
HYPER_PARAMETERS = ("optim", "model", "policy")
"""Parts of a run's configuration that are tuned; their columns are `optim.lr`, `model.loc_lr_factor`, ..."""


@dataclass(frozen=True)
class Arm:
    """One variant at one pose.

    trials: keys in the order they were proposed; finals: keys in the order of the seeds; winner: of the trials.
    """

    pose: str
    variant: str
    baseline: str
    trials: tuple[str, ...]
    winner: str | None
    finals: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study and all runs that it lists.

    num_classes: of the task. epochs: of the protocol; None if no run is in the ledger.
    runs: one row a listed run, arm by arm, trials before finals. Columns: `arm` (index into arms), `pose`,
        `variant`, `stage`, `key`, `seed` (NaN if missing), `status` (that of run.json, or "missing"), `error`,
        every name in SCORES, COSTS, TRANSFORMER_COLUMNS and MACHINE, `transformer.verdict` and `versions` (text), and
        one column a hyper-parameter (dotted): numbers, text or booleans. What a run does not have is NaN or None.
    """

    ledger: Path
    name: str
    budget: str
    protocol_hash: str
    task_label: str
    task_hash: str
    num_classes: int
    arms: tuple[Arm, ...]
    epochs: int | None
    runs: pd.DataFrame


def read_study(ledger: Path, study: str) -> Study:
    """The study of that name with its runs, costs included.

    Raises AnalysisError (a ValueError of one line) for a ledger or study that is not there, a file that is not
    JSON, lacks a value or has a newer format, and runs of two protocols or of two tasks.
    """
    file = _study_file(ledger, study)
    record = _read_object(file)
    _check_format(file, record)
    arms = tuple(_arms(file, _get(file, record, "arms", list)))
    if not arms:
        raise AnalysisError(f"{file}: 'arms' is empty: the study has no variant")
    rows: list[dict[str, Any]] = []
    epochs: int | None = None
    protocols: dict[str, str] = {}
    tasks: dict[str, str] = {}
    for index, arm in enumerate(arms):
        for stage, keys in (("trial", arm.trials), ("final", arm.finals)):
            for key in keys:
                row = {"arm": index, "pose": arm.pose, "variant": arm.variant, "stage": stage, "key": key}
                run_file = ledger / "runs" / key / "run.json"
                if not run_file.is_file():
                    rows.append(row | {"status": "missing"})
                    continue
                run = _read_object(run_file)
                _check_run(run_file, run, key, stage)
                protocols.setdefault(_get(run_file, run, "protocol_hash", str), key)
                tasks.setdefault(_get(run_file, run, "task.content_hash", str), key)
                epochs = epochs or _get(run_file, run, "config.protocol.epochs", int)
                rows.append(row | _run_row(run_file, run) | _cost_row(run_file.with_name("cost.json")))
        _check_seeds(file, arm, rows)
    protocol_hash = _get(file, record, "protocol_hash", str)
    task_hash = _get(file, record, "task.content_hash", str)
    _check_same(file, "protocol", protocol_hash, protocols)
    _check_same(file, "task", task_hash, tasks)
    numbers = ["seed", *SCORES, *COSTS, *TRANSFORMER_COLUMNS]
    texts = ["transformer.verdict", *MACHINE, "versions"]
    fixed = ["arm", "pose", "variant", "stage", "key", "status", "error", *numbers, *texts]
    found = sorted({name for row in rows for name in row} - set(fixed))
    runs = pd.DataFrame.from_records(rows, columns=[*fixed, *found])
    return Study(
        ledger=ledger,
        name=study,
        budget=_get(file, record, "budget", str),
        protocol_hash=protocol_hash,
        task_label=_get(file, record, "task.label", str),
        task_hash=task_hash,
        num_classes=len(_get(file, record, "task.classes", list)),
        arms=arms,
        epochs=epochs,
        runs=runs.astype(dict.fromkeys(numbers, "float64")),
    )


def read_histories(study: Study, keys: Iterable[str]) -> pd.DataFrame:
    """Validation accuracy over epochs: columns `key`, `epoch`, `val_accuracy` (NaN where nothing was held out).

    A run without history.json has no rows. Raises AnalysisError for a file that cannot be understood.
    """
    rows: list[tuple[str, int, float | None]] = []
    for key in keys:
        file = study.ledger / "runs" / key / "history.json"
        if not file.is_file():
            continue
        history = _read_json(file)
        if not isinstance(history, list):
            raise AnalysisError(f"{file}: holds no list of epochs")
        for epoch in history:
            if not isinstance(epoch, dict):
                raise AnalysisError(f"{file}: holds {epoch!r} where an epoch was expected")
            rows.append((key, _get(file, epoch, "epoch", int), _number(file, epoch, "val_accuracy")))
    frame = pd.DataFrame.from_records(rows, columns=["key", "epoch", "val_accuracy"])
    return frame.astype({"val_accuracy": "float64"})


def _study_file(ledger: Path, study: str) -> Path:
    folder = ledger / "studies"
    if not ledger.is_dir():
        raise AnalysisError(f"{ledger}: there is no ledger here")
    try:
        known = [path.parent.name for path in folder.glob("*/study.json")]
    except OSError as error:
        raise AnalysisError(f"{folder}: cannot be read: {error.strerror}") from error
    if study not in known:
        raise AnalysisError(f"{folder}: unknown study {study!r}; {nearest(study, known)}")
    return folder / study / "study.json"


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise AnalysisError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AnalysisError(f"{file}: is not JSON: {error}") from error


def _read_object(file: Path) -> dict[str, Any]:
    record = _read_json(file)
    if not isinstance(record, dict):
        raise AnalysisError(f"{file}: holds no JSON object")
    return record


def _get(file: Path, record: dict[str, Any], dotted: str, kind: type) -> Any:
    value: Any = record
    for name in dotted.split("."):
        if not isinstance(value, dict) or name not in value:
            raise AnalysisError(f"{file}: {dotted!r} is missing")
        value = value[name]
    if not isinstance(value, kind):
        raise AnalysisError(f"{file}: {dotted!r} is {value!r}, expected {kind.__name__}")
    return value


def _number(file: Path, record: dict[str, Any], name: str) -> float | None:
    """A number that may be null or absent."""
    value = record.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise AnalysisError(f"{file}: {name!r} is {value!r}, expected a number or null")
    return value


def _check_format(file: Path, record: dict[str, Any]) -> None:
    version = _get(file, record, "format", int)
    if version > NEWEST_FORMAT:
        raise AnalysisError(
            f"{file}: format {version} is newer than {NEWEST_FORMAT}, the newest known: update stn-bench"
        )


def _arms(file: Path, records: list[Any]) -> Iterator[Arm]:
    known: dict[str, list[str]] = {}
    for record in records:
        if not isinstance(record, dict):
            raise AnalysisError(f"{file}: 'arms' holds {record!r}, expected an object")
        variants = known.setdefault(_get(file, record, "pose", str), [])
        variants.append(_get(file, record, "variant", str))
    for pose, variants in known.items():
        if len(set(variants)) < len(variants):
            twice = next(name for name in variants if variants.count(name) > 1)
            raise AnalysisError(f"{file}: arm {twice!r} at pose {pose!r} is listed twice")
    names = {pose: set(variants) for pose, variants in known.items()}
    for record in records:
        pose, variant = record["pose"], record["variant"]
        baseline = _get(file, record, "baseline", str)
        if baseline not in names[pose]:
            hint = nearest(baseline, names[pose])
            raise AnalysisError(f"{file}: baseline {baseline!r} of {variant!r} is no arm of pose {pose!r}; {hint}")
        keys = {}
        for stage in ("trials", "finals"):
            keys[stage] = tuple(_get(file, record, stage, list))
            for key in keys[stage]:
                if not isinstance(key, str):
                    raise AnalysisError(f"{file}: {stage!r} of {variant!r} holds {key!r}, expected a run's key")
        winner = None if record.get("winner") is None else _get(file, record, "winner", str)
        if winner is not None and winner not in keys["trials"]:
            raise AnalysisError(f"{file}: winner {winner!r} of {variant!r} is none of its trials")
        yield Arm(pose, variant, baseline, keys["trials"], winner, keys["finals"])


def _check_run(file: Path, run: dict[str, Any], key: str, stage: str) -> None:
    _check_format(file, run)
    if _get(file, run, "key", str) != key:
        raise AnalysisError(f"{file}: holds the run {run['key']!r}, expected {key!r}")
    if _get(file, run, "config.stage", str) != stage:
        raise AnalysisError(f"{file}: is a {run['config']['stage']} run, but its study lists it as a {stage} run")


def _run_row(file: Path, run: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"status": _get(file, run, "status", str), "error": run.get("error")}
    row["seed"] = _get(file, run, "config.seed", int)
    for part in HYPER_PARAMETERS:
        for name, value in _get(file, run, f"config.{part}", dict).items():
            row[f"{part}.{name}"] = value
    result = run.get("result") or {}
    row |= {name: _number(file, result, name) for name in SCORES}
    return row | _transformer_row(file, _part(file, result, "transformer"))


def _transformer_row(file: Path, transformer: dict[str, Any]) -> dict[str, Any]:
    verdict = transformer.get("verdict")
    if verdict is not None and not isinstance(verdict, str):
        raise AnalysisError(f"{file}: 'verdict' is {verdict!r}, expected text or null")
    pose = _part(file, transformer, "pose")
    row = {name: _number(file, transformer, name) for name in TRANSFORMER}
    row |= {name: _number(file, pose, name) for name in TRANSFORMER_POSE}
    return {f"transformer.{name}": value for name, value in {"verdict": verdict, **row}.items()}


def _part(file: Path, record: dict[str, Any], name: str) -> dict[str, Any]:
    """An object that may be null or absent; empty then."""
    part = record.get(name)
    if part is not None and not isinstance(part, dict):
        raise AnalysisError(f"{file}: {name!r} is {part!r}, expected an object or null")
    return part or {}


def _cost_row(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    cost = _read_object(file)
    row: dict[str, Any] = {name: _number(file, cost, name) for name in COSTS}
    row |= {name: cost.get(name) for name in MACHINE}
    row["versions"] = ", ".join(f"{name} {version}" for name, version in sorted((cost.get("versions") or {}).items()))
    return row


def _check_seeds(file: Path, arm: Arm, rows: list[dict[str, Any]]) -> None:
    """rows: of all arms so far; the last ones are this arm's final runs."""
    key_of_seed: dict[int, str] = {}
    for row in rows[len(rows) - len(arm.finals) :]:
        seed = row.get("seed")
        if seed is None:
            continue
        if seed in key_of_seed:
            both = f"{key_of_seed[seed]} and {row['key']}"
            raise AnalysisError(f"{file}: final runs {both} of {arm.variant!r} have the same seed {seed}")
        key_of_seed[seed] = row["key"]


def _check_same(file: Path, what: str, expected: str, key_of_hash: dict[str, str]) -> None:
    if len(key_of_hash) > 1:
        (one, key), (other, other_key), *_ = key_of_hash.items()
        raise AnalysisError(
            f"{file}: two {what}s do not mix in one table: {one} (run {key}) and {other} (run {other_key})"
        )
    for found, key in key_of_hash.items():
        if found != expected:
            raise AnalysisError(f"{file}: its {what} is {expected}, but that of run {key} is {found}")
