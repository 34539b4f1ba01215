"""Ledgers of several people that share a task and a protocol; `verify` finds them well."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ledger.agreement import calibration_error
from ledger.checksums import with_digest
from ledger.config import protocol_hash, run_key
from ledger.files import to_json
from tests.faults.damage import renew_sums
from tests.support.split_ledger import GOLDEN, STUDY

NUM_IMAGES = 1000
RUN, MANIFEST = GOLDEN / "runs/85abcdbe7ee4a82f", GOLDEN / "studies" / STUDY / "study.json"


def write_person(
    root: Path, accuracies: Mapping[str, Sequence[float | str | None]], *, first_seed: int = 1, fit: float = 1.0,
    epochs: int = 2, study: str = "ours", lr: float = 0.1, margin: float = 0.01, **changes: Any,
) -> Path:  # fmt: skip
    """A ledger with one study of these variants, accuracies by seed, in thousandths; None: that run is not made yet;
    a status, such as `diverged`: it ended so.

    fit: accuracy on training images at the end. lr: another one makes other runs of the same seeds.
    """
    record, manifest = (json.loads(file.read_text()) for file in (RUN / "run.json", MANIFEST))
    protocol = manifest["protocol"] | {"robustness": "none", "test_images": NUM_IMAGES, "epochs": epochs}
    arms = []
    for variant, by_seed in accuracies.items():
        finals = []
        for seed, accuracy in enumerate(by_seed, first_seed):
            optim = {"lr": lr, "weight_decay": 0.0005}
            config = record["config"] | {"variant": variant, "seed": seed, "protocol": protocol, "optim": optim}
            finals.append(run_key(config, record["task"]["content_hash"]))
            if accuracy is not None:
                _write_run(root / "runs" / finals[-1], record, config, accuracy, fit)
        role = "ceiling" if variant.startswith("oracle") else "plain"
        arm = manifest["arms"][0] | {"variant": variant, "trials": [], "winners": [], "finals": finals, "role": role}
        arm |= {"baseline": next(iter(accuracies))}
        arm.pop("winner")
        arms.append(arm | {"words": "a network", "pose_words": "images as they are"})
    claims = manifest["claims"] | {"family": [], "margin": margin}
    plan = {"num_finals": len(arms[0]["finals"]), "first_seed": first_seed, "claims": claims, "num_trials": 0}
    plan |= {"protocol_hash": protocol_hash(protocol), "spaces": {}}
    whole = manifest | plan | {"study": study, "protocol": protocol, "arms": arms, "first": manifest["first"] | plan}
    (root / "studies" / study).mkdir(parents=True)
    (root / "studies" / study / "study.json").write_bytes(to_json(with_digest(whole | changes)))
    return root


def _write_run(folder: Path, record: dict[str, Any], config: dict[str, Any], accuracy: float | str, fit: float) -> None:
    if isinstance(accuracy, str):
        _write_run(folder, record | {"status": accuracy}, config, 0, fit)
        lost = json.loads((folder / "run.json").read_text())
        tested = {name: None for name in lost["result"] if name.startswith("test_")}
        (folder / "run.json").write_bytes(to_json(lost | {"result": lost["result"] | tested}))
        for name in ("predictions.safetensors", "weights.safetensors"):
            (folder / name).unlink()
        renew_sums(folder)
        return
    label_N = np.arange(NUM_IMAGES) % 10
    right_N = np.arange(NUM_IMAGES) < round(NUM_IMAGES * accuracy)
    confidence_N, probability_N = np.full(NUM_IMAGES, 0.875), np.where(right_N, 0.875, 0.03125)
    arrays = {
        "label": label_N.astype(np.int16),
        "predicted": np.where(right_N, label_N, (label_N + 1) % 10).astype(np.int16),
    }
    arrays |= {"confidence": confidence_N.astype(np.float32), "label_probability": probability_N.astype(np.float32)}
    epochs = config["protocol"]["epochs"]
    history = json.loads((RUN / "history.json").read_text())[-1]
    rows = [history | {"epoch": epoch, "train_accuracy": fit * epoch / epochs} for epoch in range(1, epochs + 1)]
    result = dict.fromkeys(("rotation_accuracy", "corruption_accuracy", "worst_of_grid_accuracy"))
    result |= {
        "epochs": epochs,
        "num_test_images": NUM_IMAGES,
        "test_accuracy": right_N.mean(),
        "test_loss": -np.log(probability_N).mean(),
    }
    result |= {"test_class_accuracy": [right_N[label_N == k].mean() for k in range(10)]}
    result |= {"test_ece": calibration_error(confidence_N, right_N)}
    task_hash = record["task"]["content_hash"]
    run = {"key": run_key(config, task_hash), "config": config, "protocol_hash": protocol_hash(config["protocol"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_bytes(to_json(record | run | {"result": record["result"] | result}))
    (folder / "history.json").write_bytes(to_json(rows))
    (folder / "cost.json").write_bytes((RUN / "cost.json").read_bytes())
    safetensors.numpy.save_file(arrays, folder / "predictions.safetensors")
    safetensors.numpy.save_file({"weight": np.ones(2, np.float32)}, folder / "weights.safetensors")
    renew_sums(folder)
