"""Robustness: how a trained network does on images that are turned, scaled, shifted and corrupted after training.

Legend: N images that are transformed, B images of a batch, C channels, H rows, W columns, K uniform numbers an image,
P points, X logits.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.images.corruptions import CIFAR_PX, CORRUPTIONS, SEVERITIES, Corruption
from experiments.images.draws import permutation, uniform
from experiments.images.poses import PoseMaps, affine_pose
from experiments.machine.device import autocast
from experiments.machine.heartbeat import beat
from experiments.networks.network import Batch, Network
from experiments.runs.images import DeviceImages, stratified
from ledger.config import Protocol
from ledger.scores import robustness_scores
from stn.affine import from_parts
from stn.sampler import Sampler

BATCH_SIZE = 256
MAX_SCALE, MAX_SHIFT = 2.0, 1 / 4
WORST_DEG, WORST_PX = 30.0, 3.0
"""Limits of the grid of which the worst point counts, the shift for 32-pixel images: Engstrom et al. 2019, Exploring
the Landscape of Spatial Robustness, arXiv:1712.02779, section 4."""


class Density(NamedTuple):
    """Numbers of points; of the worst's grid, angles and shifts along each axis, odd so that 0 is among them."""

    rotation: int
    scale: int
    shift: int
    worst_angles: int
    worst_shifts: int


DENSITIES = {"quick": Density(13, 5, 5, 7, 3), "full": Density(25, 9, 9, 31, 5)}
"""The full grid of the worst point is Engstrom's, 5 x 5 shifts and 31 angles."""


@dataclass(frozen=True)
class Placement:
    """One way to move all images: turned by degrees anticlockwise, larger by a factor, moved by pixels to the right and
    down."""

    angle_deg: float = 0.0
    scale: float = 1.0
    right_px: float = 0.0
    down_px: float = 0.0

    def move(self, raw_BCHW: Tensor, poses: PoseMaps) -> tuple[Tensor, PoseMaps]:
        """The images, square and moved, and the true poses that they have then."""
        device = raw_BCHW.device
        # On the screen, where y points down, positive angles turn clockwise. The image is 2 wide.
        theta_in_to_out_123 = from_parts(
            angle_rad_B=torch.tensor([-math.radians(self.angle_deg)], device=device),
            log_scale_B=torch.tensor([math.log(self.scale)], device=device),
            shift_B2=torch.tensor([[self.right_px, self.down_px]], device=device) * 2 / raw_BCHW.shape[-1],
        )
        return moved(raw_BCHW, poses, PoseMaps(affine_pose(theta_in_to_out_123).theta_N33.expand(len(raw_BCHW), 3, 3)))


@dataclass(frozen=True)
class Point:
    """kind: rotation, scale, shift_x or shift_y. value: degrees anticlockwise, factor, pixels right or down.
    agreement: share of images that are given the same class as untransformed."""

    kind: str
    value: float
    accuracy: float
    agreement: float


@dataclass(frozen=True)
class WorstOfGrid:
    """accuracy: share of the images that are right at every point of the grid."""

    max_deg: float
    max_px: float
    num_points: int
    accuracy: float


@dataclass(frozen=True)
class CorruptionPoint:
    name: str
    kind: str
    severity: int
    accuracy: float


@dataclass(frozen=True)
class Robustness:
    """What robustness.json holds."""

    num_images: int
    points: list[Point]
    worst_of_grid: WorstOfGrid
    corruptions: list[CorruptionPoint]

    def summary(self) -> dict[str, float]:
        return robustness_scores(asdict(self))


Transform = Callable[[Tensor, PoseMaps], tuple[Tensor, PoseMaps]]
"""From images and their true poses to transformed images and their true poses."""


class Subjects:
    """The images that a network is asked about, transformed in many ways, and what it said of them as they are.

    They are those of the run's pose, with all that it put around them, transformed further and resampled once:
    bilinear, black outside, as in Engstrom et al. 2019. Their true poses are those of both together, so that
    `oracle_unwarp` undoes the transformation as well: it stays the ceiling of what knowing the geometry can bring, and
    loses only what resampling and the frame have taken.
    All draws are functions of the image and their purpose: every variant and every seed sees the same images.
    """

    def __init__(self, network: Network, images: DeviceImages, protocol: Protocol) -> None:
        part_N = torch.arange(len(images), device=images.labels_N.device)
        order_N = permutation(part_N, seed=0, epoch=0, purpose="robustness")
        self.index_N, _ = stratified(order_N, images.labels_N, protocol.robustness_images or len(images))
        self.images = images.subset(self.index_N)
        self.size_px = images.pixels_NHWC.shape[1]
        self.u_NK = uniform(self.index_N, network.num_draws, seed=0, epoch=0, purpose="evaluate")
        self.network, self.precision = network.eval(), protocol.precision
        self.places_N = part_N[: len(self.images)]
        self.untransformed_N = self.predict(self.places_N, lambda raw_BCHW, poses: (raw_BCHW, poses))

    def predict(self, place_N: Tensor, transform: Transform) -> Tensor:
        """The classes that are given to these subjects once they are transformed."""
        predicted = []
        for place_B in place_N.split(BATCH_SIZE):
            beat()
            raw_BCHW, poses = transform(self.images.raw(place_B), self.images.poses[place_B])
            raw_BCHW = raw_BCHW.clamp(0, 1).contiguous(memory_format=torch.channels_last)
            with autocast(raw_BCHW.device, self.precision):
                logits_BX = self.network(Batch(raw_BCHW, poses, self.u_NK[place_B]))
            predicted.append(logits_BX.float().argmax(1))
        return torch.cat(predicted)

    def predict_placed(self, place_N: Tensor, placement: Placement) -> Tensor:
        if placement == Placement():
            return self.untransformed_N[place_N]
        return self.predict(place_N, placement.move)


def moved(raw_BCHW: Tensor, poses: PoseMaps, maps: PoseMaps) -> tuple[Tensor, PoseMaps]:
    """Images under maps from moved coordinates to theirs, and the true poses that they have then."""
    return Sampler()(raw_BCHW, maps), poses.then(maps)


@torch.inference_mode()
def measure_robustness(network: Network, images: DeviceImages, protocol: Protocol) -> Robustness | None:
    """As densely as the protocol says, in evaluation mode, on as many images of the part as it says; None for none.

    images: the whole part under its pose; which of them are taken is the same for every network.
    """
    if protocol.robustness == "none":
        return None
    density, subjects = DENSITIES[protocol.robustness], Subjects(network, images, protocol)
    return Robustness(
        num_images=len(subjects.images),
        points=list(measure_curves(subjects, density)),
        worst_of_grid=measure_worst_of_grid(subjects, density),
        corruptions=list(measure_corruptions(subjects, chosen_corruptions(protocol))),
    )


def placements(density: Density, size_px: int) -> Iterator[tuple[str, float, Placement]]:
    """Kind and value of each point of the curves, and where it puts the images."""
    for value in spread(180.0, density.rotation):
        yield "rotation", value, Placement(angle_deg=value)
    for value in spread(math.log2(MAX_SCALE), density.scale):
        yield "scale", 2**value, Placement(scale=2**value)
    for kind, axis in (("shift_x", "right_px"), ("shift_y", "down_px")):
        for value in spread(MAX_SHIFT * size_px, density.shift):
            yield kind, value, Placement(**{axis: value})


def measure_curves(subjects: Subjects, density: Density) -> Iterator[Point]:
    for kind, value, placement in placements(density, subjects.size_px):
        predicted_N = subjects.predict_placed(subjects.places_N, placement)
        accuracy = share(predicted_N == subjects.images.labels_N)
        yield Point(kind, value, accuracy, share(predicted_N == subjects.untransformed_N))


def measure_worst_of_grid(subjects: Subjects, density: Density) -> WorstOfGrid:
    """An image that was wrong once is wrong at the worst point, whatever the rest says: it is asked no more.

    So this is exact for every network that judges each image by itself. In one that mixes the images of a batch
    (stn_shuffled) those that are left keep company only with each other, in an order that is always the same.
    """
    max_px = WORST_PX * subjects.size_px / CIFAR_PX
    angles_deg, shifts_px = spread(WORST_DEG, density.worst_angles), spread(max_px, density.worst_shifts)
    grid = [
        Placement(angle_deg=angle_deg, right_px=right_px, down_px=down_px)
        for angle_deg, right_px, down_px in itertools.product(angles_deg, shifts_px, shifts_px)
    ]
    # The far ends first, where most images fail.
    grid.sort(key=lambda at: -max(abs(at.angle_deg) / WORST_DEG, abs(at.right_px) / max_px, abs(at.down_px) / max_px))
    labels_N = subjects.images.labels_N
    right_N = subjects.places_N
    for placement in grid:
        if len(right_N):
            right_N = right_N[subjects.predict_placed(right_N, placement) == labels_N[right_N]]
    return WorstOfGrid(WORST_DEG, max_px, len(grid), len(right_N) / len(subjects.images))


def chosen_corruptions(protocol: Protocol) -> dict[str, Corruption]:
    full = protocol.robustness == "full"
    return {name: corruption for name, corruption in CORRUPTIONS.items() if full or not corruption.is_extra}


def measure_corruptions(subjects: Subjects, corruptions: dict[str, Corruption]) -> Iterator[CorruptionPoint]:
    shape_CHW = subjects.images.raw(subjects.places_N[:1]).shape[1:]
    for name, corruption in corruptions.items():
        # All severities of a batch share its draws, which take longer than what is made of them.
        hits = [0] * len(SEVERITIES)
        for place_B in subjects.places_N.split(BATCH_SIZE):
            u = corruption.draw(name, subjects.index_N[place_B], shape_CHW)
            for severity in SEVERITIES:
                predicted_B = subjects.predict(place_B, corrupting(corruption, u, severity))
                hits[severity - 1] += int((predicted_B == subjects.images.labels_N[place_B]).sum())
        for severity in SEVERITIES:
            yield CorruptionPoint(name, corruption.kind, severity, hits[severity - 1] / len(subjects.images))


def corrupting(corruption: Corruption, u: Tensor, severity: int) -> Transform:
    """u: draws for the images that it will be applied to."""
    level = corruption.levels[severity - 1]

    def transform(raw_BCHW: Tensor, poses: PoseMaps) -> tuple[Tensor, PoseMaps]:
        if corruption.kind == "geometric":
            return moved(raw_BCHW, poses, corruption.change(u, raw_BCHW.shape[3], level))
        return corruption.change(raw_BCHW, u, level), poses

    return transform


def num_evaluations(protocol: Protocol, num_test: int) -> float:
    """Images that a network is asked about, all points together, as far as that is known: with the worst of the grid, a
    third of the points' images are expected to be right still."""
    if protocol.robustness == "none":
        return 0
    density = DENSITIES[protocol.robustness]
    num_curves = density.rotation + density.scale + 2 * density.shift - 4  # nothing moves in the middle of each
    num_corruptions = len(SEVERITIES) * len(chosen_corruptions(protocol))
    num_images = min(protocol.robustness_images or num_test, num_test)
    num_worst = density.worst_angles * density.worst_shifts**2
    return num_images * (1 + num_curves + num_worst / 3 + num_corruptions)


def spread(end: float, num: int) -> list[float]:
    """num values in equal steps from -end to end. Whole numbers first, so that the middle is 0 exactly."""
    return [end * (2 * i - num + 1) / (num - 1) for i in range(num)]


def share(true_N: Tensor) -> float:
    return int(true_N.sum()) / len(true_N)
