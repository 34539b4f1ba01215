"""What a study's images look like: some of each class as they are, as networks see them, and as policies show them.

Legend: N chosen images, H rows, W columns, C channels.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from experiments.images.contact_sheet import (
    LACKING,
    MOST_PX,
    Group,
    Pixels,
    Row,
    block_height,
    cell_px,
    draw_sheet,
    groups_abreast,
)
from experiments.images.poses import has_background, posed_px, put_in_pose
from experiments.images.tasks import Task
from experiments.images.tasks.folder import training_files
from experiments.images.tasks.image_files.decoding import decode
from experiments.networks.variants import build_policy, parse_variant
from experiments.runs.images import DeviceImages, posed_anew
from experiments.runs.training import augment, draws
from experiments.study.arms import ArmPlan, words_of_pose
from experiments.study.study import Study
from ledger.config import Fit
from ledger.names import variant_parts
from ledger.wording import count

IMAGES_A_CLASS = 3
IMAGES_OF_ALL = 12
"""Images at least, where there are few classes."""
MAX_CLASSES, MAX_ROWS, MAX_HEIGHT_PX = 12, 40, 12_000
_SEED = 0
"""Of policies and of poses that are drawn anew: the one that tuning has."""
_FRAME = (225, 105, 0)


def contact_sheet(
    study: Study, task: Task, arms: Sequence[ArmPlan], *, whole_files: bool
) -> tuple[Image.Image, list[str]]:
    """Some training images of each class, and what is not shown of classes and rows, in sentences.

    arms: of the study. whole_files: also shows the pictures as they lie in a folder, with what networks do not see.
    """
    image_px, combinations = study.protocol.image_px, list(_combinations(arms))
    cell = cell_px(max(posed_px(pose, image_px) for _, pose, _ in combinations))
    labels, index_N, sizes = _chosen(task, min(MAX_ROWS, 2 + len(combinations)), cell)
    raw_NHWC = task.train.pixels_NHWC[index_N]
    rows, is_seen = list[Row](), False
    for arm, pose, policy in combinations[: MAX_ROWS - 2]:
        pictures = _shown(task, index_N, arm, pose, policy)
        is_plain = not policy and np.array_equal(pictures, raw_NHWC)
        is_seen |= is_plain
        rows += [] if is_plain else [Row(_caption(arms, arm, pose, policy), pictures)]
    size_text = f"{image_px} x {image_px} px{_fit_text(study.protocol.fit, task)}"
    rows.insert(0, Row(f"{'as networks see them' if is_seen else 'before any pose'}: {size_text}", list(raw_NHWC)))
    if whole_files and task.name == "folder":
        rows.insert(0, _as_they_are(study, task, index_N, cell))
    num_by_class, _ = task.num_by_class
    groups = [
        Group(f"{_class_text(task, label)} ({count(num_by_class[label], 'image')})", size)
        for label, size in zip(labels, sizes, strict=True)
    ]
    title = f"{task.label}: training images, for {study.name} at budget {study.budget}"
    notes = []
    if len(labels) < len(task.classes):
        notes.append(f"The sheet has {len(labels)} of {len(task.classes):,} classes, evenly taken from all.")
    if (left := len(combinations) - (MAX_ROWS - 2)) > 0:
        notes.append(f"Left out are {count(left, 'row')} of further poses and policies.")
    if any(re.search(LACKING, name) for name in task.classes):
        notes.append("Classes whose names have other letters than Latin ones have their numbers instead.")
    return draw_sheet(title, groups, rows, cell), notes


def _combinations(arms: Sequence[ArmPlan]) -> Iterator[tuple[ArmPlan, str, str]]:
    """Each pose by itself, and with each policy used under it: an arm that has both, the pose, and the policy or ""."""
    for pose in dict.fromkeys(arm.pose for arm in arms):
        of_pose = [arm for arm in arms if arm.pose == pose]
        yield of_pose[0], pose, ""
        by_policy: dict[str, ArmPlan] = {}
        for arm in of_pose:
            by_policy.setdefault(variant_parts(arm.variant).policy, arm)
        yield from ((arm, pose, policy) for policy, arm in by_policy.items() if policy)
    if test_pose := arms[0].test_pose:
        yield arms[0], test_pose, ""


def _chosen(task: Task, num_rows: int, cell: int) -> tuple[list[int], npt.NDArray[np.int64], list[int]]:
    """Classes by their labels, the training images of them that are shown, and how many these are of each.

    Evenly taken from all, in their order: those that lie beside each other are often alike.
    """
    size = max(IMAGES_A_CLASS, IMAGES_OF_ALL // len(task.classes))
    blocks = max(1, MAX_HEIGHT_PX // block_height([cell] * num_rows))
    num = min(len(task.classes), MAX_CLASSES, blocks * groups_abreast(size, cell))
    labels = [int(label) for label in _evenly(np.arange(len(task.classes)), num)]
    indices = [_evenly(np.flatnonzero(task.train.labels_N == label), size) for label in labels]
    return labels, np.concatenate(indices), [len(each) for each in indices]


def _evenly(of: npt.NDArray[np.int64], num: int) -> npt.NDArray[np.int64]:
    """So many of them, or all there are."""
    return of[np.unique(np.linspace(0, len(of) - 1, min(num, len(of))).round().astype(np.int64))]


def _as_they_are(study: Study, task: Task, index_N: npt.NDArray[np.int64], cell: int) -> Row:
    """The pictures in their files; a frame around what is read of them where that is not all."""
    files, fit = training_files(study.task.partition(":")[2], study.group), study.protocol.fit
    pictures, is_cut = [], False
    for index in index_N:
        file: Path = files[index]
        pixels_HWC, seen = decode(file, MOST_PX, task.reading.to_rgb, "whole")
        if max(seen.size) < MOST_PX:
            pixels_HWC, _ = decode(file, max(seen.size), task.reading.to_rgb, "whole")
        is_framed = fit == "crop" and seen.size[0] != seen.size[1]
        pictures.append(_framed(pixels_HWC, cell) if is_framed else pixels_HWC)
        is_cut |= is_framed
    return Row(f"as they are{'; what lies outside of the frame is not read' if is_cut else ''}", pictures)


def _framed(pixels_HWC: Pixels, cell: int) -> Pixels:
    """In the size that its cell has: its middle square in a frame, and the rest pale."""
    whole = Image.fromarray(pixels_HWC)
    scale = cell / max(whole.size)
    whole = whole.resize((max(1, round(whole.width * scale)), max(1, round(whole.height * scale))))
    side, pale = min(whole.size), Image.blend(whole, Image.new("RGB", whole.size, "white"), 0.4)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    pale.paste(whole.crop((left, top, left + side, top + side)), (left, top))
    ImageDraw.Draw(pale).rectangle((left, top, left + side - 1, top + side - 1), outline=_FRAME, width=2)
    return np.asarray(pale)


def _fit_text(fit: Fit, task: Task) -> str:
    words: dict[Fit, tuple[str, str]] = {
        "crop": ("Cropping", "the middle square"), "pad": ("Padding", "between bars"),
        "stretch": ("Stretching", "stretched"),
    }  # fmt: skip
    heading, text = words[fit]
    return f", {text}" if heading in dict(task.reading.facts) else ""


def _shown(task: Task, index_N: npt.NDArray[np.int64], arm: ArmPlan, pose: str, policy: str) -> list[Pixels]:
    """The images under the pose, and then as the arm's policy shows them in training, if it is to be seen."""
    chosen_N = torch.from_numpy(index_N)
    raw_NHWC = torch.from_numpy(np.ascontiguousarray(task.train.pixels_NHWC[index_N]))
    pool_MHWC = torch.from_numpy(np.array(task.train.pixels_NHWC)) if has_background(pose) else None
    part = "train" if pose == arm.pose else "test"
    posed_NHWC, poses = put_in_pose(raw_NHWC, chosen_N, pose, part=part, pool_MHWC=pool_MHWC)
    if policy:
        shown = build_policy(parse_variant(arm.variant), arm.first("policy"))
        images = DeviceImages(posed_NHWC, torch.from_numpy(task.train.labels_N[index_N]), poses)
        if arm.posed_anew:
            images = posed_anew(images, task.train, chosen_N, pose)
        here_N = torch.arange(len(chosen_N))
        raw_NCHW, _ = images.in_training(here_N, seed=_SEED, epoch=1)
        shown_NCHW = augment(raw_NCHW, shown, draws(shown, here_N, seed=_SEED, epoch=1))
        posed_NHWC = _pixels(shown_NCHW)
    return list(posed_NHWC.numpy())


def _pixels(x_NCHW: Tensor) -> Tensor:
    return (x_NCHW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _caption(arms: Sequence[ArmPlan], arm: ArmPlan, pose: str, policy: str) -> str:
    if pose != arm.pose:
        return f"tested under {pose}: {words_of_pose(pose)}"
    if not policy:
        return f"under the pose {pose}: {words_of_pose(pose)}"
    under = f"under the pose {pose}, " if len({each.pose for each in arms}) > 1 else ""
    return f"{under}+{policy}, as shown in training (another draw each time)"


def _class_text(task: Task, label: int) -> str:
    """Its name, or its number where the font lacks letters of it."""
    name = task.classes[label]
    return f"class {label + 1}" if re.search(LACKING, name) else name
