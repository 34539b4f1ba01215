"""A ledger of many made-up runs, written fast: files that may be the same in every run are links to one."""

import json
import os
from pathlib import Path
from typing import Any

from tests.support.synthetic_ledger import STUDY, key_of, write_evaluation, write_run, write_study

TEMPLATE = "template"


def write_large_study(
    ledger: Path, num_arms: int, num_trials: int, num_finals: int, *, num_images: int = 1000, study: str = STUDY
) -> None:
    """Arms of the same size, in blocks of ten that cross five models with two policies.

    Every final run was evaluated, on num_images images; every eighth trial was pruned.
    """
    write_run(ledger, TEMPLATE, variant="cnn")
    write_evaluation(ledger, TEMPLATE, accuracy=0.5, seed=0, num_images=num_images)
    template = ledger / "runs" / TEMPLATE
    record = json.loads((template / "run.json").read_text())
    arms = [_write_arm(ledger, record, i, num_trials, num_finals) for i in range(num_arms)]
    write_study(ledger, arms, study=study)


def _write_arm(ledger: Path, record: dict[str, Any], i: int, num_trials: int, num_finals: int) -> dict[str, Any]:
    # Arms of two blocks differ in two things, so that the pairs that differ in one grow with the blocks
    block, place = divmod(i, 10)
    plain, policy = f"cnn:depth={block}", "" if place < 5 else "+affine"
    model = plain if place % 5 == 0 else f"stn_affine:depth={block}:start_sd=0.0{place % 5}"
    backbone = f"cnn:width={block}"
    variant = f"{model}@{backbone}{policy}"
    keys: dict[str, list[str]] = {"trial": [], "final": []}
    for stage, num in (("trial", num_trials), ("final", num_finals)):
        for j in range(num):
            key = key_of(variant, stage, j)
            keys[stage].append(key)
            _write_run(ledger / "runs" / key, record, variant, stage, j, 0.4 + 0.001 * (i % 100) + 0.002 * (i * j % 7))
    baseline = f"{plain}@{backbone}{policy}"
    names = {"pose": "upright", "variant": variant, "baseline": baseline}
    return names | {"trials": keys["trial"], "winner": keys["trial"][0], "finals": keys["final"]}


def _write_run(folder: Path, record: dict[str, Any], variant: str, stage: str, j: int, accuracy: float) -> None:
    folder.mkdir()
    tested = stage == "final"
    config = record["config"] | {"variant": variant, "stage": stage, "seed": j + 1 if tested else 0}
    config["optim"] = {"lr": 0.01 * (j + 1), "weight_decay": 5e-4}
    scores: dict[str, Any] = {"val_accuracy": accuracy + 0.01}
    scores |= {"test_accuracy": accuracy, "test_class_accuracy": [accuracy, accuracy + 0.1]} if tested else {}
    blank = {} if tested else {name: None for name in record["result"] if name.startswith("test_")}
    status = "completed" if tested or j % 8 < 7 else "pruned"
    run = record | {"key": folder.name, "status": status, "config": config}
    (folder / "run.json").write_text(json.dumps(run | {"result": record["result"] | blank | scores}))
    shared = ["history.json", "cost.json"]
    shared += ["robustness.json", "predictions.safetensors"] if tested else []
    for name in shared:
        os.link(folder.parent / TEMPLATE / name, folder / name)
