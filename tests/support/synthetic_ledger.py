"""A ledger of made-up runs in the documented format, for tests that read one."""

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

STUDY = "tiny-cpu"
SEEDS = (11, 12, 13, 14, 15)
EIGHT_SEEDS = (*SEEDS, 16, 17, 18)
TASK: dict[str, Any] = {"name": "folder", "label": "Tiny (JPEG)", "content_hash": "c0" * 32, "classes": ["a", "b"]}
PROTOCOL = {"image_px": 32, "epochs": 6, "batch_size": 128}
PROTOCOL_HASH = "1234abcd"


def write_json(file: Path, value: Any) -> None:
    """Write a file of the ledger, and its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def edit_json(file: Path, **changes: Any) -> None:
    """Change top-level values of a file of the ledger."""
    write_json(file, json.loads(file.read_text()) | changes)


def key_of(*parts: object) -> str:
    """A run's key: 16 hex digits over the parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def transformer_record(*, pose: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """What run.json says of a transformer that works; pose: changes to what it found of the true pose."""
    found = {"angle_error_deg": 12.0, "angle_r2": 0.8, "log_scale_r2": None, "shift_r2": None, "shift_error_px": 2.0}
    record = {"num_images": 1000, "verdict": "working", "identity_fraction": 0.02, "out_of_frame": 0.05}
    record |= {"condition": 1.3, "zoom": 0.9, "angle_deg": -3.0, "angle_sd_deg": 20.0, "spread_px": 4.0}
    return record | {"pose": found | (pose or {})} | changes


def write_run(
    ledger: Path,
    key: str,
    *,
    variant: str,
    pose: str = "upright",
    stage: str = "final",
    seed: int = 11,
    status: str = "completed",
    error: str | None = None,
    accuracy: float | None = 0.5,
    num_parameters: int = 31_340,
    train_flops: float = 3.1e11,
    model: dict[str, Any] | None = None,
    lr: float = 0.1,
    task: dict[str, Any] | None = None,
    protocol_hash: str = PROTOCOL_HASH,
    train_seconds: float = 21.3,
    transformer: dict[str, Any] | None = None,
    fit: float = 1.0,
    prediction: tuple[float, float] | None = None,
    by_class: tuple[float, float, float] | None = None,
) -> None:
    """One run. accuracy: on the test set, validation is up to 0.01 higher; None for a run without scores.

    fit: accuracy on training images at the end; by default the run has learned them all.
    prediction: FLOPs and passes of one; not given, the run is older than that, and does not say. by_class: balanced
    accuracy, macro F1 and AUROC, likewise.
    """
    epochs = PROTOCOL["epochs"] if status == "completed" else 3
    scored = accuracy is not None
    val = min(1.0, accuracy + 0.01) if accuracy is not None else None
    tested = scored and stage == "final" and status == "completed"
    folder = ledger / "runs" / key
    config = {"variant": variant, "seed": seed, "stage": stage, "pose": pose, "protocol": PROTOCOL}
    config |= {"optim": {"lr": lr, "weight_decay": 5e-4}, "model": model or {}, "policy": {}, "prune_below": []}
    result = {
        "epochs": epochs if scored else None,
        "num_train_images": 6000 if scored else None,
        "num_val_images": 2000 if scored else None,
        "num_test_images": 10000 if tested else None,
        "num_parameters": num_parameters if scored else None,
        "train_flops": train_flops if scored else None,
        "val_accuracy": val,
        "val_loss": 1.0 if scored else None,
        "test_accuracy": accuracy if tested else None,
        "test_class_accuracy": [accuracy - 0.1, accuracy + 0.1] if tested and accuracy is not None else None,
        "test_loss": 1.0 if tested else None,
        "test_ece": 0.05 if tested else None,
        "rotation_accuracy": 0.6 * accuracy if tested and accuracy is not None else None,
        "corruption_accuracy": 0.8 * accuracy if tested and accuracy is not None else None,
        "worst_of_grid_accuracy": 0.3 * accuracy if tested and accuracy is not None else None,
        "transformer": transformer,
    }
    if prediction:
        result |= dict(zip(("predict_flops", "predict_passes"), prediction if tested else (None, None), strict=True))
    if by_class:
        names = ("test_balanced_accuracy", "test_macro_f1", "test_auroc")
        result |= dict(zip(names, by_class if tested else (None, None, None), strict=True))
    run = {"format": 4, "key": key, "status": status, "error": error, "config": config, "task": task or TASK}
    write_json(folder / "run.json", run | {"protocol_hash": protocol_hash, "result": result})
    history = [
        {
            "epoch": epoch,
            "lr": lr,
            "train_loss": 1.0,
            "train_accuracy": fit * rise,
            "val_loss": 1.0,
            "val_accuracy": at,
        }
        for epoch in range(1, epochs + 1 if scored else 1)
        for rise in [1 - 0.7 * math.exp(-2 * epoch)]
        for at in [None if val is None else val * (1 - 0.7 * math.exp(-epoch))]
    ]
    write_json(folder / "history.json", history)
    cost: dict[str, Any] = {"train_seconds": train_seconds, "seconds": train_seconds + 3, "images_per_s": 1410.0}
    cost |= {"peak_memory_mib": 512.0, "started": "2026-11-22T10:00:00Z", "device": "cpu", "device_name": "A CPU"}
    write_json(folder / "cost.json", cost | {"threads": 1, "versions": {"python": "3.11.7", "torch": "2.14.1"}})


def write_evaluation(ledger: Path, key: str, *, accuracy: float, seed: int, num_images: int = 200) -> None:
    """What the evaluation of a final run leaves beside run.json: predictions and robustness, drawn by the seed."""
    draw = np.random.default_rng([seed, *key.encode()])
    folder = ledger / "runs" / key
    label_N = (np.arange(num_images) % 2).astype(np.int16)
    correct_N = draw.permutation(num_images) < round(accuracy * num_images)
    confidence_N = draw.uniform(0.5, 1, num_images).astype(np.float32)
    arrays: dict[str, Any] = {"label": label_N, "predicted": np.where(correct_N, label_N, 1 - label_N).astype(np.int16)}
    arrays |= {"confidence": confidence_N, "label_probability": np.where(correct_N, confidence_N, 1 - confidence_N)}
    safetensors.numpy.save_file(arrays, folder / "predictions.safetensors")
    points = [
        {"kind": kind, "value": float(value), "accuracy": accuracy * fall, "agreement": fall}
        for kind, values in {"rotation": (-90, 0, 90), "scale": (0.5, 1, 2), "shift_x": (-4, 0, 4)}.items()
        for value in values
        for fall in [1.0 if value == (kind == "scale") else 0.6]
    ]
    corruptions = [
        {"name": name, "kind": kind, "severity": severity, "accuracy": accuracy * (1 - 0.1 * severity)}
        for name, kind in (("gaussian_noise", "photometric"), ("rotate", "geometric"))
        for severity in range(1, 6)
    ]
    worst = {"max_deg": 30.0, "max_px": 3.0, "num_points": 63, "accuracy": 0.3 * accuracy}
    record = {"num_images": num_images, "points": points, "worst_of_grid": worst, "corruptions": corruptions}
    write_json(folder / "robustness.json", record)


def write_maps(ledger: Path, key: str, *, seed: int, num_images: int = 50, follow: float = 0.8) -> None:
    """The maps of a run's transformer on turned images. follow: share of the true angle that it undoes."""
    draw = np.random.default_rng(seed)
    true_N = np.deg2rad(draw.uniform(-90, 90, num_images))
    thetas = [
        np.stack([np.cos(a), -np.sin(a), 0 * a, np.sin(a), np.cos(a), 0 * a], axis=1).reshape(-1, 2, 3)
        for a in (follow * true_N + draw.normal(0, 0.1, num_images), true_N)
    ]
    arrays = {"theta": thetas[0][None].astype(np.float32), "true_theta": thetas[1].astype(np.float32)}
    safetensors.numpy.save_file(arrays, ledger / "runs" / key / "maps.safetensors")


def write_arm(
    ledger: Path,
    variant: str,
    baseline: str,
    accuracies: Sequence[float | str | None],
    *,
    pose: str = "upright",
    trial_statuses: tuple[str, ...] = ("completed", "completed", "pruned"),
    transformers: Sequence[dict[str, Any] | None] = (),
    study: str = "",
    **run: Any,
) -> dict[str, Any]:
    """The runs of an arm, and its entry in study.json.

    accuracies: test accuracy by seed; None for a missing run; a status ("diverged", "failed") for one without.
    transformers: the final runs' records of their transformers, by seed. study: where a ledger has several, so that
    their runs are others.
    """
    trials, own = [], (study,) * bool(study)
    for i, status in enumerate(trial_statuses):
        trials.append(key_of(*own, pose, variant, "trial", i))
        lr = 0.05 * (i + 1)
        write_run(ledger, trials[-1], variant=variant, pose=pose, stage="trial", seed=0, status=status, lr=lr, **run)
    finals = []
    for seed, accuracy, transformer in zip_longest(SEEDS[: len(accuracies)], accuracies, transformers):
        finals.append(key_of(*own, pose, variant, seed))
        if isinstance(accuracy, str):
            score, error = (0.1, None) if accuracy == "diverged" else (None, "out of memory | <8 GiB>")
            write_run(
                ledger, finals[-1], variant=variant, pose=pose, seed=seed, status=accuracy, error=error,
                accuracy=score, transformer=transformer, **run,
            )  # fmt: skip
        elif accuracy is not None:
            about = run | {"transformer": transformer}
            write_run(ledger, finals[-1], variant=variant, pose=pose, seed=seed, accuracy=accuracy, **about)
    winner = trials[1] if len(trials) > 1 else None
    return {
        "pose": pose, "variant": variant, "baseline": baseline, "trials": trials, "winner": winner, "finals": finals
    }  # fmt: skip


def write_study(ledger: Path, arms: list[dict[str, Any]], *, study: str = STUDY, **changes: Any) -> Path:
    """The study.json of arms already written."""
    record: dict[str, Any] = {
        "format": 4,
        "study": study,
        "budget": "cpu",
        "protocol_hash": PROTOCOL_HASH,
        "task": TASK,
    }
    record |= {
        f"num_{stage}": max((len(arm[stage] or ()) for arm in arms), default=0) for stage in ("trials", "finals")
    }
    file = ledger / "studies" / study / "study.json"
    write_json(file, record | {"wandb_project": "stn-bench", "arms": arms} | changes)
    return file


def write_tiny_study(ledger: Path) -> None:
    """Five arms: whole, better, with losses, without a completed run, not begun."""
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.50, 0.52, 0.54, 0.53, 0.51]),
        write_arm(ledger, "cnn+affine", "cnn", [0.55, 0.57, 0.585, 0.58, 0.56]),
        write_arm(
            ledger, "stn_affine", "cnn", [0.50, "diverged", 0.55, None, 0.50],
            trial_statuses=("completed", "completed", "pruned", "failed"), model={"loc_lr_factor": 0.25, "steps": 1},
            num_parameters=243_146, train_flops=3.2e12,
        ),
        write_arm(
            ledger, "stn_affine+affine", "cnn+affine", ["failed", "failed", None, None, None],
            model={"loc_lr_factor": 0.5},
        ),
        {"pose": "upright", "variant": "late", "baseline": "stn_affine", "trials": [], "winner": None, "finals": []},
    ]  # fmt: skip
    write_study(ledger, arms)
