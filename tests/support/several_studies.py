"""A ledger of studies on several tasks, which share some of their variants."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.synthetic_ledger import TASK, write_arm, write_study

ROLES = {"oracle": "ceiling", "stn": "transformer"}
Accuracies = Mapping[str, list[float | str | None]]


def write_task(
    ledger: Path, study: str, accuracies: Accuracies, *, task: str, fit: float = 1.0, classes: int = 4,
    poses: tuple[str, ...] = ("upright",), **changes: Any,
) -> None:  # fmt: skip
    """A study of these variants on a task of so many equal classes; fit: as of write_run."""
    about = TASK | {
        "label": task,
        "content_hash": task.lower().replace(" ", "").ljust(64, "0"),
        "classes": [f"c{i}" for i in range(classes)],
    }
    arms = []
    for pose in poses:
        for variant, of_variant in accuracies.items():
            written = write_arm(
                ledger, variant, "cnn", of_variant, pose=pose, study=study, task=about, fit=fit, trial_statuses=()
            )
            role = next((role for name, role in ROLES.items() if variant.startswith(name)), "plain")
            arms.append(written | {"role": role, "words": "a network", "pose_words": "images as they are"})
    images = {"facts": [], "warnings": [], "train": [50] * classes, "test": [10] * classes}
    write_study(ledger, arms, study=study, task=about, images=images, **changes)
