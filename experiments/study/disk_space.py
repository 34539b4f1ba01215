"""How much a study will still write, in whole blocks of a disk, and whether there is room before anything trains.

Bytes are worked out from what is written, a little too large, never too small; no call tells what a quota leaves.
"""

import math
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.filesize import decimal
from torch import Tensor

from experiments.images.corruptions import SEVERITIES
from experiments.images.poses import posed_px
from experiments.images.tasks import Task
from experiments.networks.network import Network
from experiments.runs.diagnostics import MAX_IMAGES as MAX_MAPS
from experiments.runs.pictures import NUM_IMAGES as NUM_PICTURED
from experiments.runs.robustness import DENSITIES, chosen_corruptions
from experiments.study.arms import ArmPlan
from experiments.study.plan import Kind, Plan
from experiments.tracking.logged_values import MAX_CONFUSION_CLASSES
from ledger.config import Protocol
from ledger.errors import UserError

BLOCK = 4096
NUM_CHECKPOINTS = 3
"""Of each worker: two generations, and the one that is being written."""
FOLDER_AND_RECORDS = 6 * BLOCK
"""Of a run: its folder, run.json, history.json, cost.json and the list of their hashes."""
EPOCH, TENSOR, POINT = 250, 150, 120
"""Bytes of an epoch in history.json, of a tensor's entry in a file of weights, of a point in robustness.json."""
WANDB_RUN, WANDB_FINAL_RUN = 11 * BLOCK, 17 * BLOCK
WANDB_EPOCH, WANDB_POINT, WANDB_CELL = 600, 450, 60
"""Of W&B's files of a run: folders and what is always there, an epoch, a point of robustness, a cell of a table."""
TRACKIO_RUN, TRACKIO_ROW = 2 * BLOCK, 700
"""Of its rows in trackio's database: its configuration with what indexes take, an epoch or a point. Measured."""
STUDY, TRIAL, REPORTS, REPORTS_ARM = 32 * BLOCK, 6000, 6 * 2**20, 3 * 2**18
"""Of study.json and Optuna's journal: what is always there and each trial; of tables, figures and report: the same, and
each arm. Measured."""
EPOCH_ROW, PREDICTION_ROW = 200, 20
"""Bytes of a row of history.csv, and of one of predictions.csv.gz, which took 9 in a study of 28 runs."""


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a study will still write into its ledger, W&B's files among them, and into its folder of reports."""

    ledger: int
    reports: int

    @property
    def total(self) -> int:
        return self.ledger + self.reports

    def text(self, runs: Path) -> str:
        """For people: what will be written, and what there is room for beside the ledger."""
        if not self.total:
            return "Nothing of size will be written."
        free = free_space(runs)
        room = "how much is free cannot be known" if free is None else f"{decimal(free)} are free"
        return f"Up to {decimal(self.total)} of disk will be written; {room}."


def disk_need(plan: Plan, left: Sequence[Sequence[int]], num_workers: int) -> DiskNeed:
    """What a study needs. left: runs of each kind that each arm still lacks."""
    num_left = sum(map(sum, left))
    if not num_left:
        return DiskNeed(0, 0)
    sizes = [_run_and_checkpoint(plan, arm, kind) for arm in plan.arms for kind in plan.kinds]
    runs = sum(number * run for number, (run, _) in zip(chain(*left), sizes, strict=True))
    checkpoints = min(num_workers, num_left) * NUM_CHECKPOINTS * max(checkpoint for _, checkpoint in sizes)
    rows = sum(_row_bytes(kind) for kind in plan.kinds)
    return DiskNeed(runs + checkpoints + STUDY + num_left * TRIAL, REPORTS + len(plan.arms) * (REPORTS_ARM + rows))


def check_room(need: DiskNeed, runs: Path, reports: Path) -> None:
    """Raises UserError where a folder's file system has less room than the study needs there."""
    wanted = {"runs": (runs, need.ledger), "reports": (reports, need.reports)}
    if _existing(runs).stat().st_dev == _existing(reports).stat().st_dev:
        wanted = {"runs": (runs, need.total)}
    for name, (folder, size) in wanted.items():
        free = free_space(folder)
        if free is not None and free < size:
            raise UserError(
                f"{name}: the study will still write about {decimal(size)}, and only {decimal(free)} are free for "
                f"{folder.absolute()}; make room there, give {name.upper()}= on another disk, or take fewer seeds or "
                "variants"
            )


def free_space(folder: Path) -> int | None:
    """Bytes that may still be written to the file system on which the folder is, or would be.

    None where it does not say, as some mounts over a network or of a program do: they have no blocks at all.
    """
    usage = shutil.disk_usage(_existing(folder))
    return usage.free if usage.total else None


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _run_and_checkpoint(plan: Plan, arm: ArmPlan, kind: Kind) -> tuple[int, int]:
    """Bytes of one run of an arm with all that W&B keeps of it, and of one of its checkpoints."""
    protocol, num_classes, is_tested = kind.protocol, len(plan.task.classes), kind.stage != "trial"
    network = _largest_network(arm, protocol, plan.task)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    trained *= 2 if protocol.optimiser == "adamw" else 1  # it keeps the mean of squares too
    states = network.state_dict().values(), trained
    weights, momenta = (_num_bytes(tensors) + len(tensors) * TENSOR for tensors in states)
    # Enlarging them costs the picture little; noise cannot be packed.
    image_px, has_look = posed_px(arm.pose, protocol.image_px), type(network).look is not Network.look
    picture = _blocks(2 * NUM_PICTURED * image_px**2 * 3 * 5 // 4) if has_look else 0
    epochs, num_points = protocol.epochs, _num_points(protocol) if is_tested else 0
    run = FOLDER_AND_RECORDS + _blocks(epochs * EPOCH) + _blocks(num_classes * WANDB_CELL) + picture
    if is_tested:
        run += (
            _blocks(weights)
            + _blocks(protocol.test_images * (14 if arm.test_pose else 12) + BLOCK)
            + _blocks(num_points * POINT)
        )
        if has_look:
            run += _blocks((network.num_heads + 1) * min(protocol.test_images, MAX_MAPS) * 24 + BLOCK)
    if plan.study.tracker == "wandb" and plan.study.wandb.mode != "disabled":
        has_confusion = is_tested and num_classes <= MAX_CONFUSION_CLASSES
        cells = num_classes + has_confusion * num_classes**2
        run += picture + (WANDB_FINAL_RUN if is_tested else WANDB_RUN)
        run += _blocks(epochs * WANDB_EPOCH + num_points * WANDB_POINT + cells * WANDB_CELL)
    elif plan.study.tracker == "trackio":
        run += TRACKIO_RUN + _blocks(epochs * TRACKIO_ROW + num_points * TRACKIO_ROW)
    return run, _blocks((1 + protocol.averaging) * weights + momenta + epochs * EPOCH)


def _row_bytes(kind: Kind) -> int:
    """Of history.csv and predictions.csv.gz, for one arm."""
    images = kind.protocol.test_images if kind.stage == "final" else 0
    return kind.number * (kind.protocol.epochs * EPOCH_ROW + images * PREDICTION_ROW)


def _largest_network(arm: ArmPlan, protocol: Protocol, task: Task) -> Network:
    """The arm's largest network that its search may come to, without numbers."""
    setting = arm.first("model")
    largest = arm.network(protocol, task, setting)
    for name, ends in arm.ends("model").items():
        for value in ends:
            with suppress(UserError):  # more than two values at once, which the plan did not try
                network = arm.network(protocol, task, setting | {name: value})
                if _num_bytes(network.state_dict().values()) > _num_bytes(largest.state_dict().values()):
                    largest, setting = network, setting | {name: value}
    return largest


def _num_points(protocol: Protocol) -> int:
    """Points of robustness.json."""
    if protocol.robustness == "none":
        return 0
    density = DENSITIES[protocol.robustness]
    num_curves = density.rotation + density.scale + 2 * density.shift
    return num_curves + len(SEVERITIES) * len(chosen_corruptions(protocol))


def _num_bytes(tensors: Collection[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _blocks(size: float) -> int:
    return math.ceil(size / BLOCK) * BLOCK
