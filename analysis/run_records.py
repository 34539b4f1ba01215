"""Reads runs of the ledger into rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.committed import get, is_there, read_record
from ledger.config import canonical
from ledger.errors import UserError
from ledger.forms import shown
from ledger.scores import COSTS, RESULT, TRANSFORMER, TRANSFORMER_POSE, UPRIGHT

SCORES = tuple(score.name for score in RESULT if score.form != "shares")
MACHINE = ("device", "device_name", "threads")
TRANSFORMER_COLUMNS = tuple(f"transformer.{score.name}" for score in (*TRANSFORMER, *TRANSFORMER_POSE))
HYPER_PARAMETERS = ("optim", "model", "policy")
"""Parts of a run's configuration that are tuned; their columns are `optim.lr`, `model.loc_lr_factor`, ..."""


class Runs:
    """Reads runs into rows. protocols, tasks: hashes that were found, each with the key of a run that has it.

    protocols: by the hash that was expected. protocol_of: values by name, by that hash.
    """

    def __init__(self, file: Path, ledger: Path) -> None:
        self.file, self.ledger = file, ledger
        self.protocols: dict[str, dict[str, str]] = {}
        self.protocol_of: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, str] = {}

    def rows(self, arm: Mapping[str, Any], stage: str, keys: Sequence[str], protocol_hash: str) -> list[dict[str, Any]]:
        """The runs of a stage, which all should have that protocol. arm: what all rows have of their arm."""
        rows: list[dict[str, Any]] = []
        for key in keys:
            row = {**arm, "stage": stage, "key": key}
            run_file = self.ledger / "runs" / key / "run.json"
            if not is_there(run_file):
                rows.append(row | {"status": "missing"})
                continue
            run = read_record(run_file)
            _check_run(run_file, run, key, stage)
            self.protocols.setdefault(protocol_hash, {}).setdefault(get(run_file, run, "protocol_hash", str), key)
            self.tasks.setdefault(get(run_file, run, "task.content_hash", str), key)
            self.protocol_of.setdefault(protocol_hash, get(run_file, run, "config.protocol", dict))
            get(run_file, run, "config.protocol.epochs", int)
            rows.append(row | run_row(run_file, run) | cost_row(run_file.with_name("cost.json")))
        return rows


def _check_run(file: Path, run: dict[str, Any], key: str, stage: str) -> None:
    if get(file, run, "key", str) != key:
        raise UserError(f"{file}: holds the run {shown(run['key'])}, expected {key!r}")
    if get(file, run, "config.stage", str) != stage:
        found = shown(run["config"]["stage"])[1:-1]
        raise UserError(f"{file}: is a {found} run, but its study lists it as a {stage} run")


def run_row(file: Path, run: dict[str, Any]) -> dict[str, Any]:
    """How the run of that run.json ended, its hyper-parameters and its scores."""
    row: dict[str, Any] = {"status": get(file, run, "status", str), "error": run.get("error")}
    row["seed"] = get(file, run, "config.seed", int)
    for owner in HYPER_PARAMETERS:
        for name, value in get(file, run, f"config.{owner}", dict).items():
            row[f"{owner}.{name}"] = value
    result = run.get("result") or {}
    row |= {name: result.get(name) for name in SCORES}
    if UPRIGHT.name in result:
        row[UPRIGHT.name] = result[UPRIGHT.name]
    if result.get("test_class_accuracy") is not None:
        row["test_class_accuracy"] = _class_accuracy(file, get(file, result, "test_class_accuracy", list))
    return row | _transformer_row(result.get("transformer") or {})


def _class_accuracy(file: Path, values: list[Any]) -> npt.NDArray[np.float64]:
    """By class; NaN for one that the test set lacks."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{file}: 'test_class_accuracy' is {values!r}, expected numbers or null") from None


def _transformer_row(transformer: dict[str, Any]) -> dict[str, Any]:
    values = (transformer.get("pose") or {}) | transformer
    names = ("transformer.verdict", *TRANSFORMER_COLUMNS)
    return {name: values.get(name.removeprefix("transformer.")) for name in names}


def cost_row(file: Path) -> dict[str, Any]:
    """What that cost.json says of time and machine; nothing where it is not there."""
    if not is_there(file):
        return {}
    cost = read_record(file)
    versions = ", ".join(f"{name} {version}" for name, version in sorted((cost.get("versions") or {}).items()))
    return {name: cost.get(name) for name in (*(score.name for score in COSTS), *MACHINE)} | {
        "versions": versions,
        "code": intern(canonical(cost["code"])) if cost.get("code") else None,
    }
