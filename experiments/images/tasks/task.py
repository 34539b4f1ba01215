"""What a task is, the registry of all of them, and how one is loaded."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from baselines.registry import Registry
from experiments.images.tasks.reading import Reading
from ledger.config import Fit
from ledger.errors import UserError, nearest


@dataclass(frozen=True)
class Images:
    """One part of a task.

    pixels_NHWC: uint8, RGB, or one channel where all of the task's images are grey; may be mapped from a file and
        read-only.
    labels_N: int64, indices into the task's classes.
    theta_N23: float32, the pose each image was drawn or taken under: the affine map from the posed image to the
        upright one, normalised coordinates (x, y) in [-1, 1], align_corners=False. Identity where there is none.
    group_N: int64, which group each image is of, numbered from 0; None where nothing is known of groups, and of a test
        part, which is not split further.
    """

    pixels_NHWC: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]
    theta_N23: npt.NDArray[np.float32]
    group_N: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    @classmethod
    def upright(
        cls,
        pixels_NHWC: npt.NDArray[np.uint8],
        labels: Sequence[int] | npt.NDArray[np.int64],
        groups: Sequence[int] | None = None,
    ) -> "Images":
        """Images whose poses are the identity."""
        theta_N23 = np.tile(np.eye(2, 3, dtype=np.float32), (len(labels), 1, 1))
        group_N = None if groups is None else np.array(groups, np.int64)
        return cls(pixels_NHWC, np.array(labels, np.int64), theta_N23, group_N)


@dataclass(frozen=True)
class Task:
    """Images and labels that variants are compared on.

    name: the kind of task (`cifar10`, `sprites`, `folder`); label: what tables and W&B call it.
    classes: the class names, in label order.
    train, test: the two parts. Only experiments/runs/evaluation.py may touch `test`.
    content_hash: 64 hex digits over pixels, labels, poses, class names and groups, and over how the reading made RGB of
        them where that is not the usual way; part of every run's key.
    reading: what was read to make it, and what was not.
    group_example: files of a group, for this machine's terminal only: they may be called like people.
    """

    name: str
    label: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    content_hash: str
    reading: Reading = field(default_factory=Reading)
    group_example: str = ""

    @property
    def num_by_class(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Training and test images of each class, in label order."""
        train, test = (np.bincount(part.labels_N, minlength=len(self.classes)) for part in (self.train, self.test))
        return tuple(train.tolist()), tuple(test.tolist())

    @property
    def num_test_images(self) -> int:
        """How many test images there are; all that most of the program may know of them."""
        return len(self.test)

    @property
    def num_channels(self) -> int:
        """Channels of its images, and so of what every network takes: 1 where all are grey, else 3."""
        return int(self.train.pixels_NHWC.shape[3])

    @property
    def num_bytes(self) -> int:
        """Bytes of its images when decoded, with labels and poses."""
        parts = (self.train, self.test)
        return sum(part.pixels_NHWC.nbytes + part.labels_N.nbytes + part.theta_N23.nbytes for part in parts)

    def record(self) -> dict[str, object]:
        """What the ledger says of the task.

        `channels`, and of the way to RGB, what is not as usual; `groups`, how many of them training and validation are
        made of, where there are some.
        """
        return {
            "name": self.name,
            "label": self.label,
            "content_hash": self.content_hash,
            "classes": list(self.classes),
            **({} if self.num_channels == 3 else {"channels": self.num_channels}),
            **({} if self.train.group_N is None else {"groups": len(np.unique(self.train.group_N))}),
            **self.reading.to_rgb.record(),
        }


Say = Callable[[str], None]
"""Prints one line for the person who waits."""

PRINT: Say = partial(print, flush=True)


class BuildTask(Protocol):
    """Builds a task, or maps it from the cache.

    argument: what follows the colon in `folder:PATH`; empty otherwise.
    image_px: side of the square images to deliver. fit: how pictures that are not square become so, as of Protocol;
        published and drawn images are square.
    cache: folder for decoded images. say: where to report slow steps. A task of GROUPED takes `group` as well: what its
    images are grouped by.
    Raises UserError if the images cannot be had.
    """

    def __call__(self, argument: str, *, image_px: int, fit: Fit, cache: Path, say: Say) -> Task: ...


TASKS: Registry[BuildTask] = Registry("task", "experiments.images.tasks")
GROUPED = ("folder",)
"""Tasks whose images can be grouped."""

MIN_IMAGE_PX, MAX_IMAGE_PX = 8, 1024
MAX_LABEL = 200


def load_task(
    spec: str,
    *,
    image_px: int,
    fit: Fit = "crop",
    cache: Path,
    say: Say = PRINT,
    label: str = "",
    group: str = "",
) -> Task:
    """The task that `spec` names: `cifar10`, `mnist`, `sprites` or `folder:PATH`; from the cache where it is there.

    image_px, fit: as of BuildTask. label: what tables call the task, instead of its own label.
    group: which images belong together and must not be on both sides of a split, as image_files/groups.py has it.
    Raises UserError for an unknown name or images that cannot be had.
    """
    name, _, argument = spec.partition(":")
    if name not in TASKS:
        hint = f"write folder:{spec}" if spec and Path(spec).is_dir() else nearest(name, TASKS)
        raise UserError(f"task {spec!r}: unknown; {hint}")
    if len(label) > MAX_LABEL or not label.isprintable():
        raise UserError(f"label: {label!r:.80} is not one line of at most {MAX_LABEL} printable characters")
    if not MIN_IMAGE_PX <= image_px <= MAX_IMAGE_PX:
        raise UserError(f"image_px {image_px}: must be between {MIN_IMAGE_PX} and {MAX_IMAGE_PX}")
    if group and name not in GROUPED:
        raise UserError(f"group: {group!r} is about a folder of images, and the task is {spec!r}; name one by DATA=")
    more = {"group": group} if group else {}
    task = TASKS[name](argument, image_px=image_px, fit=fit, cache=cache, say=say, **more)
    return dataclasses.replace(task, label=label) if label else task
