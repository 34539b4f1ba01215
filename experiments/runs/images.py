"""A task's images on the training device: under their poses, split by seed, gathered in batches.

Legend: N images, M images of a whole part, B images of a batch, C channels, H rows, W columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.policies import Policy, asks_for_poses
from experiments.images.draws import permutation, uniform
from experiments.images.poses import PoseMaps, has_background, no_pose, parse_pose, put_in_pose
from experiments.images.tasks import Images, Task
from experiments.images.whole_groups import choose_groups
from experiments.machine.heartbeat import beat
from experiments.networks.network import Batch
from ledger.config import Fit, Protocol
from ledger.errors import UserError


@dataclass(frozen=True)
class Anew:
    """Images of the training part that are put under a pose anew whenever they are shown, from their upright pixels.

    upright_MHWC, own_theta_M23: of all images of the part, and the poses that the task gave them. index_N: which of
    them the images are.
    """

    pose: str
    upright_MHWC: Tensor
    own_theta_M23: Tensor
    index_N: Tensor

    def __getitem__(self, index_B: Tensor) -> "Anew":
        return replace(self, index_N=self.index_N.index_select(0, index_B))

    def show(self, *, seed: int, epoch: int) -> tuple[Tensor, PoseMaps]:
        """Their pixels, uint8 (N, H, W, C), and true poses in that epoch of a run with that seed."""
        pixels_NHWC, poses = put_in_pose(
            self.upright_MHWC.index_select(0, self.index_N),
            self.index_N,
            self.pose,
            part="train",
            pool_MHWC=self.upright_MHWC,
            seed=seed,
            epoch=epoch,
        )
        return pixels_NHWC, poses.before(self.own_theta_M23.index_select(0, self.index_N))


@dataclass(frozen=True)
class DeviceImages:
    """Images where they are used: uint8 pixels (N, H, W, C), int64 labels (N), true poses (upright if not given).

    anew: how they are shown in training, where that is not as they are here.
    """

    pixels_NHWC: Tensor
    labels_N: Tensor
    true_poses: PoseMaps | None = None
    anew: Anew | None = None

    @property
    def poses(self) -> PoseMaps:
        return self.true_poses or no_pose(len(self.labels_N), self.labels_N.device)

    def __len__(self) -> int:
        return len(self.labels_N)

    def raw(self, index_B: Tensor) -> Tensor:
        """Pixels in [0, 1], (B, C, H, W) float32 in channels-last memory."""
        return _raw(self.pixels_NHWC.index_select(0, index_B))

    def in_training(self, index_B: Tensor, *, seed: int, epoch: int) -> tuple[Tensor, PoseMaps]:
        """Pixels, as of `raw`, and true poses, as the images are shown in that epoch of a run with that seed."""
        if self.anew is None:
            return self.raw(index_B), self.poses[index_B]
        pixels_BHWC, poses = self.anew[index_B].show(seed=seed, epoch=epoch)
        return _raw(pixels_BHWC), poses

    def subset(self, index_N: Tensor) -> "DeviceImages":
        return DeviceImages(
            self.pixels_NHWC.index_select(0, index_N),
            self.labels_N.index_select(0, index_N),
            self.poses[index_N],
            self.anew and self.anew[index_N],
        )

    def order(self) -> Tensor:
        """Indices of the images in the order of evaluation, (N,): random yet always the same.

        Where files lie sorted by class, a network that mixes the images of a batch must not see one class at a time.
        """
        index_N = torch.arange(len(self), device=self.labels_N.device)
        return permutation(index_N, seed=0, epoch=0, purpose="evaluation order")

    def batches(self, num_draws: int, size: int) -> Iterator[tuple[Tensor, Batch]]:
        """All images in the order of evaluation: labels (B) and what the network is given.

        num_draws: uniform numbers that the network needs for each image: always the same for the same image.
        """
        index_N = self.order()
        u_NK = uniform(index_N, num_draws, seed=0, epoch=0, purpose="evaluate")
        for index_B, u_BK in zip(index_N.split(size), u_NK.split(size), strict=True):
            beat()
            yield self.labels_N[index_B], Batch(self.raw(index_B), self.poses[index_B], u_BK)


def _raw(pixels_BHWC: Tensor) -> Tensor:
    return pixels_BHWC.permute(0, 3, 1, 2).float().div_(255)


def to_device(images: Images, pose: str, device: torch.device, *, part: str, num: int = 0) -> DeviceImages:
    """A part of a task under a pose. num: how many images, of each class its share, by a fixed seed; 0 takes all."""
    index_N = torch.arange(len(images))
    if num and num < len(images):
        order_N = permutation(index_N, seed=0, epoch=0, purpose=f"subset {part}")
        index_N = stratified(order_N, torch.from_numpy(np.array(images.labels_N)), num)[0].sort().values
    pixels_NHWC = torch.from_numpy(images.pixels_NHWC[index_N.numpy()]).to(device)
    labels_N = torch.from_numpy(images.labels_N[index_N.numpy()]).to(device)
    own_theta_N23 = torch.from_numpy(images.theta_N23[index_N.numpy()]).to(device)
    pool_MHWC = torch.from_numpy(np.array(images.pixels_NHWC)).to(device) if has_background(pose) else None
    posed_NHWC, poses = put_in_pose(pixels_NHWC, index_N.to(device), pose, part=part, pool_MHWC=pool_MHWC)
    return DeviceImages(posed_NHWC, labels_N, poses.before(own_theta_N23))


def is_posed_anew(pose: str, policy: Policy) -> bool:
    """Whether images that are trained on are under another draw of the pose whenever they are shown."""
    drawn = parse_pose(pose)
    return drawn.num_draws > 0 and (drawn.fresh or asks_for_poses(policy))


def posed_anew(images: DeviceImages, part: Images, index_N: Tensor, pose: str) -> DeviceImages:
    """The images, to be posed anew in training. part: the task's training part; index_N: which of it they are.

    Means, whitening and whatever else looks at them outside training go by the one pose that they have here.
    """
    device = images.labels_N.device
    upright_MHWC, own_theta_M23 = (
        torch.from_numpy(np.array(each)).to(device) for each in (part.pixels_NHWC, part.theta_N23)
    )
    return replace(images, anew=Anew(pose, upright_MHWC, own_theta_M23, index_N.to(device)))


def split(
    labels_N: Tensor, protocol: Protocol, seed: int, group_N: npt.NDArray[np.int64] | None = None
) -> tuple[Tensor, Tensor]:
    """Indices of the training and validation images, both drawn by the run's seed: paired runs share them.

    labels_N: of all images that there are to draw from. Each class keeps its share in both parts. group_N: where images
    have groups, validation takes whole ones, so that it has about as many images as the protocol says.
    """
    order_N = permutation(torch.arange(len(labels_N)), seed=seed, epoch=0, purpose="split")
    if group_N is None:
        val_N, rest_N = stratified(order_N, labels_N, protocol.val_images)
    else:
        order_G = permutation(torch.arange(int(group_N.max()) + 1), seed=seed, epoch=0, purpose="split groups")
        is_val = choose_groups(labels_N.numpy(), group_N, order_G.numpy(), protocol.val_images)
        is_val_N = torch.from_numpy(is_val)[order_N]
        val_N, rest_N = order_N[is_val_N], order_N[~is_val_N]
    return stratified(rest_N, labels_N, protocol.train_images)[0] if protocol.train_images else rest_N, val_N


def stratified(order_N: Tensor, labels_N: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """`num` of the indices and the others, both in the given order, of each class the first that there are.

    Of each class its share among the indices, rounded by the largest remainders; of equal ones, the first in the order.
    labels_N: of all images, to look up by index.
    """
    label_N = labels_N[order_N]
    by_label_N = label_N.argsort(stable=True)
    sorted_N = label_N[by_label_N]
    start_N, end_N = torch.searchsorted(sorted_N, label_N), torch.searchsorted(sorted_N, label_N, right=True)
    rank_N = by_label_N.argsort() - start_N
    # How much of its class's quota, num * (end - start) / len(order), the earlier ones of the class leave: 1 or more
    # for the quota's whole part, then the remainder. Times len(order), so that equal ones are equal.
    left_N = num * (end_N - start_N) - len(order_N) * rank_N
    chosen_N = left_N.argsort(descending=True, stable=True)
    return order_N[chosen_N[:num].sort().values], order_N[chosen_N[num:].sort().values]


def fit_to_task(protocol: Protocol, task: Task) -> tuple[Protocol, str]:
    """The protocol with the numbers of images that the task has, and a line on what had to shrink, or ''.

    `fit` is its default where there is nothing to fit.

    Validation takes at most a fifth of the training part. Raises UserError if nothing would be left to train on.
    """
    if protocol.train_images == 1:
        raise UserError("protocol.train_images: 1 image is too few to train on; 0 takes all that validation leaves")
    num_images, num_test = len(task.train), task.num_test_images
    val_images = min(protocol.val_images, num_images // 5)
    train_images = min(protocol.train_images or num_images, num_images - val_images)
    test_images = min(protocol.test_images or num_test, num_test)
    if train_images < 2 or test_images < 1 or (protocol.val_images and val_images < 1):
        raise UserError(f"{task.label}: {num_images} training and {num_test} test images are too few to compare on")
    if protocol.val_images and task.train.group_N is not None:
        labels_N = torch.from_numpy(np.array(task.train.labels_N))
        if not len(split(labels_N, replace(protocol, val_images=val_images), 0, task.train.group_N)[1]):
            raise UserError(
                f"group: {task.label} has too few groups to validate on: each has all training images of some class"
            )
    fit: Fit = protocol.fit if task.name == "folder" else "crop"  # the others are square: nothing is to be fitted
    fitted = replace(protocol, train_images=train_images, val_images=val_images, test_images=test_images, fit=fit)
    names = ("train_images", "val_images", "test_images")
    numbers = [(name.removesuffix("_images"), getattr(protocol, name), getattr(fitted, name)) for name in names]
    shrunk = [f"{name} {wanted:,} -> {there:,}" for name, wanted, there in numbers if wanted > there]
    line = f"{task.label} has too few images for what was asked: {', '.join(shrunk)} (validation: a fifth at most)"
    return fitted, line if shrunk else ""


def channel_statistics(images: DeviceImages) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all pixels, in [0, 1], (C) each, float32 on the CPU."""
    # From counts of the 256 values: exact, the same on every device, and without all pixels as floats.
    channels = images.pixels_NHWC.unbind(-1)
    counts_CV = torch.stack([channel.flatten().bincount(minlength=256) for channel in channels]).cpu().double()
    value_V = torch.arange(256, dtype=torch.float64) / 255
    num = counts_CV[0].sum()
    mean_C = counts_CV @ value_V / num
    variance_C = (counts_CV * (value_V - mean_C[:, None]) ** 2).sum(1) / (num - 1)
    return mean_C.float(), variance_C.sqrt().clamp_min(1e-3).float()
