"""A study whose runs have every kind of file, and ways to damage and to edit them."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ledger.checksums import SUMS, with_digest, write_sums
from ledger.files import to_json
from tests.support.tiny_study import STUDY, TINY

CHANGES: dict[str, Any] = {
    "variants": [{"variant": "stn_affine", "baseline": "stn_affine"}],
    "protocol": {**TINY["protocol"], "robustness": "quick", "robustness_images": 4, "test_images": 40},
}
FILES = (
    *("run.json", "history.json", "cost.json", "robustness.json", "transformer.png"),
    *("weights.safetensors", "predictions.safetensors", "maps.safetensors"),
)


def arm_of(root: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((root / "studies" / STUDY / "study.json").read_text())
    (arm,) = manifest["arms"]
    return dict(arm)


def final_run(root: Path) -> Path:
    """The folder of the last final run, which has every kind of file."""
    return root / "runs" / arm_of(root)["finals"][-1]


def renew_sums(folder: Path) -> None:
    """What somebody does who wants an edit to go unnoticed."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS}
    (folder / SUMS).write_bytes(write_sums(files))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the value of a JSON file in place, and write it as the program would."""
    value = json.loads(path.read_text())
    change(value)
    path.write_bytes(to_json(value))


def damages(content: bytes, num_flips: int) -> Iterator[bytes]:
    """Nothing, less, more, and one bit of one byte that is another: at both ends and in between."""
    yield b""
    yield content[: len(content) // 2]
    yield content[:-1]
    yield content + b"\n"
    places = range(len(content))
    chosen = {0, len(content) - 1, *random.Random(0).sample(places, min(num_flips, len(content)))}
    for place in sorted(chosen):
        yield content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]


def set_in(*dotted: Any) -> Callable[[Any], None]:
    """Sets the last of the arguments in the place that the others lead to."""

    def change(value: Any) -> None:
        *way, last, new = dotted
        for name in way:
            value = value[name]
        assert value[last] != new
        value[last] = new

    return change


def edit_arrays(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    arrays = {name: array.copy() for name, array in safetensors.numpy.load_file(path).items()}
    change(arrays)
    safetensors.numpy.save_file(arrays, path)


def correct_one(arrays: dict[str, Any]) -> None:
    """Has the first answer that is wrong right."""
    wrong = int(np.flatnonzero(arrays["predicted"] != arrays["label"])[0])
    arrays["predicted"][wrong] = arrays["label"][wrong]


EDITS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "accuracy": ("run.json", set_in("result", "test_accuracy", 0.99)),
    "class accuracy": ("run.json", set_in("result", "test_class_accuracy", 0, 0.99)),
    "calibration": ("run.json", set_in("result", "test_ece", 0.0)),
    "loss": ("run.json", set_in("result", "test_loss", 0.1)),
    "robustness": ("run.json", set_in("result", "rotation_accuracy", 0.99)),
    "validation": ("run.json", set_in("result", "val_accuracy", 0.99)),
    "learning rate": ("run.json", set_in("config", "optim", "lr", 0.123)),
    "seed": ("run.json", set_in("config", "seed", 99)),
    "images": ("run.json", set_in("task", "content_hash", "00")),
    "protocol": ("run.json", set_in("protocol_hash", "00000000")),
    "key": ("run.json", set_in("key", "0" * 16)),
    "status": ("run.json", set_in("status", "diverged")),
    "no result": ("run.json", set_in("result", None)),
    "epochs": ("history.json", lambda rows: rows.pop()),
    "last epoch": ("history.json", set_in(-1, "val_accuracy", 0.99)),
    "curve": ("robustness.json", set_in("points", 0, "accuracy", 0.99)),
    "corruption": ("robustness.json", set_in("corruptions", 0, "accuracy", 0.99)),
    "an answer": ("predictions.safetensors", correct_one),
    "confidence": ("predictions.safetensors", lambda arrays: arrays["confidence"].fill(1.0)),
    "fewer answers": ("predictions.safetensors", lambda arrays: arrays.update(label=arrays["label"][:-1])),
}


def renew_digest(root: Path, change: Callable[[Any], Any]) -> None:
    path = root / "studies" / STUDY / "study.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_bytes(to_json(with_digest(value)))
