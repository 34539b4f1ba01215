"""What a tracker is told of a run, as plain values. docs/wandb.md lists the names; a slash makes a section."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from ledger.config import whole_protocol
from ledger.names import variant_parts
from ledger.scores import COSTS, RESULT

CURVES = {"rotation": "deg", "scale": "factor", "shift_x": "px", "shift_y": "px"}
"""Curves over transformed test images, and the unit they are over: `rotation/accuracy` over `rotation/deg`."""
CORRUPTION = "corruption"
"""Another, over `corruption/severity`: mean accuracy, `corruption/geometric` and `corruption/photometric`."""
MAX_CONFUSION_CLASSES = 40
"""With more classes a confusion matrix could not be read, and is not logged."""
_ON_TRANSFORMED_TEST_IMAGES = [score.name for score in RESULT if score.file == "robustness.json"]
Json = dict[str, Any]


class Table(NamedTuple):
    columns: list[str]
    rows: list[list[Any]]


def read_files(folder: Path) -> tuple[Json, list[Json], Json, Json]:
    """The run's record, and its history, cost and robustness: empty where it does not have the file."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    epochs, cost, robustness = (
        json.loads(file.read_text(encoding="utf-8")) if (file := folder / f"{name}.json").exists() else missing
        for name, missing in (("history", []), ("cost", {}), ("robustness", {}))
    )
    return run, epochs, cost, robustness


def run_name(run: Json) -> str:
    """Variant, pose if any, and seed; trials by the start of their key, runs of a rung with its size."""
    config = run["config"]
    name = config["variant"] if config["pose"] == "upright" else f"{config['variant']} at {config['pose']}"
    if config["stage"] == "trial":
        return f"{name} trial {run['key'][:6]}"
    size = f" at {size_of(run)}" if config["stage"] == "rung" else ""
    tested = f" tested at {config['test_pose']}" if "test_pose" in config else ""
    return f"{name} s{config['seed']:02d}{size}{tested}"


def size_of(run: Json) -> str:
    """Training images and epochs, `5,000 x 3`: what runs of a ladder are grouped by."""
    protocol = run["config"]["protocol"]
    return f"{protocol.get('train_images', 0):,} x {protocol.get('epochs', 0)}"


def file_name(run: Json) -> str:
    """The run's name as a file system and a shell bear it; the pose last, since the end may not be seen."""
    name, pose = run_name(run), run["config"]["pose"]
    if pose != "upright":
        name = f"{name.replace(f' at {pose} ', ' ')} {pose}"
    return re.sub(r"[^\w.+@:=]", "_", name, flags=re.ASCII)[:100]


def tags(run: Json, more: list[str]) -> tuple[str, ...]:
    """Task, model, pose, each policy, status once it is done, and what the study adds."""
    names = _names(run["config"]["variant"])
    pose = run["config"]["pose"]
    policies = [f"policy {name}" for name in names["policy"].split("+")]
    tested = [f"test pose {run['config']['test_pose']}"] if "test_pose" in run["config"] else []
    all_tags = [run["task"]["label"], names["model"], f"pose {pose}", *tested, *policies, run.get("status"), *more]
    return tuple(dict.fromkeys(tag[:64] for tag in all_tags if tag))  # W&B refuses longer ones


def config(run: Json, cost: Json) -> Json:
    """The run's configuration, and what tells its task, protocol and machine apart."""
    task = run["task"]
    return {
        **run["config"],
        "protocol": whole_protocol(run["config"]["protocol"]),
        "policy": _nested(run["config"]["policy"]),
        "key": run["key"],
        "names": _names(run["config"]["variant"]),
        "rung": size_of(run),
        "task": {
            "name": task["name"],
            "label": task["label"],
            "content_hash": task["content_hash"],
            "num_classes": len(task["classes"]),
        },
        "protocol_hash": run["protocol_hash"],
        **{name: cost[name] for name in ("device", "device_name", "threads", "versions", "started") if name in cost},
    }


def _nested(values: Json) -> Json:
    """`{"affine.max_deg": 5}` as `{"affine": {"max_deg": 5}}`: in W&B's own names a dot leads into an object."""
    nested: Json = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        reduce(lambda place, group: place.setdefault(group, {}), groups, nested)[last] = value
    return nested


def history(epochs: list[Json]) -> list[Json]:
    """A row an epoch, as W&B groups charts: train_loss is train/loss."""
    return [_slashed(epoch) for epoch in epochs]


def test_row(run: Json) -> Json:
    """The test scores, which come after the last epoch; empty where there are none."""
    return {name: value for name, value in _scores(run).items() if name.startswith("test/")}


def curves(robustness: Json) -> Iterator[Json]:
    """Rows of the curves over transformed test images, each with what it is over."""
    for point in robustness.get("points", []):
        kind = point["kind"]
        scores = {name: point[name] for name in ("accuracy", "agreement") if point.get(name) is not None}
        yield {f"{kind}/{CURVES[kind]}": point["value"], **{f"{kind}/{name}": score for name, score in scores.items()}}
    by_severity: dict[int, dict[str, list[float]]] = {}
    for corruption in robustness.get("corruptions", []):
        kinds = by_severity.setdefault(corruption["severity"], {})
        kinds.setdefault(f"{CORRUPTION}/{corruption['kind']}", []).append(corruption["accuracy"])
    for severity, kinds in sorted(by_severity.items()):
        means = {name: sum(values) / len(values) for name, values in kinds.items()}
        yield {f"{CORRUPTION}/severity": severity, **means}


def curve_axes(rows: list[Json]) -> dict[str, str]:
    """What each number of the rows of `curves` is over, by name; the first of a row is what the others are over."""
    return {name: next(iter(row)) for row in rows for name in list(row)[1:]}


def tables(run: Json, robustness: Json) -> dict[str, Table]:
    """Accuracy by class, and over all transformed and corrupted images; what the run does not have is left out."""
    tables = {}
    by_part = {part: run["result"].get(f"{part}_class_accuracy") for part in ("val", "test")}
    if columns := {f"{part}_accuracy": values for part, values in by_part.items() if values}:
        rows = zip(run["task"]["classes"], *columns.values(), strict=True)
        tables["class_accuracy"] = Table(["class", *columns], [list(row) for row in rows])
    points = [
        [point["kind"], point["kind"], float(point["value"]), point["accuracy"], point.get("agreement")]
        for point in robustness.get("points", [])
    ]
    points += [
        [corruption["kind"], corruption["name"], float(corruption["severity"]), corruption["accuracy"], None]
        for corruption in robustness.get("corruptions", [])
    ]
    if points:
        tables["robustness"] = Table(["kind", "name", "value", "accuracy", "agreement"], points)
    return tables


def summary(run: Json, cost: Json) -> Json:
    """The numbers a run is compared by; what it does not have is left out."""
    transformer = run["result"].get("transformer") or {}
    transformer = {**transformer, **(transformer.get("pose") or {})}
    numbers = {
        "status": run["status"],
        "error": run.get("error"),
        **_scores(run),
        **{f"transformer/{name}": value for name, value in transformer.items() if name != "pose"},
        **{score.name: cost.get(score.name) for score in COSTS},
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _scores(run: Json) -> Json:
    return _slashed({name: value for name, value in run["result"].items() if not isinstance(value, list | dict)})


def _slashed(numbers: Mapping[str, Any]) -> Json:
    """The numbers by W&B's names; what was not measured is left out."""
    slashed = {name: f"test/{name}" for name in _ON_TRANSFORMED_TEST_IMAGES} | {"train_flops": "train_flops"}
    names = {name: slashed.get(name, re.sub("^(train|val|test)_", r"\1/", name)) for name in numbers}
    return {names[name]: value for name, value in numbers.items() if value is not None}


def _names(variant: str) -> dict[str, str]:
    """Of MODEL[@BACKBONE][+POLICY[+POLICY...]], each without its options; backbone: empty for the model's own."""
    parts = variant_parts(re.sub(r":[^@+]*", "", variant))
    return {**parts._asdict(), "policy": parts.policy or "none"}
