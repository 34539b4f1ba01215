"""Robustness against torchvision's warps and brute force; that every variant is asked the same; true poses."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from torch import Tensor

from experiments.images.corruptions import CORRUPTIONS
from experiments.images.draws import permutation
from experiments.images.poses import PoseMaps, disc_mask, no_pose, put_in_pose
from experiments.networks.network import Batch, GivenMapsNetwork, Network, Site
from experiments.runs import robustness
from experiments.runs.images import DeviceImages, stratified
from experiments.runs.robustness import (
    CorruptionPoint,
    Placement,
    Point,
    Robustness,
    Subjects,
    WorstOfGrid,
    measure_robustness,
    num_evaluations,
    spread,
)
from ledger.config import Protocol
from stn.maps import AffineMap
from stn.sampler import base_grid
from tests.experiments.images.test_corruptions import smooth_images
from tests.support.networks import NETWORKS, build, built

CPU = torch.device("cpu")
PROTOCOL = Protocol(precision="fp32", device="cpu", robustness="quick", robustness_images=0)
BILINEAR = TF.InterpolationMode.BILINEAR


def soft_images(num: int = 12, size_px: int = 32) -> DeviceImages:
    pixels_NHWC = (smooth_images(num, size_px) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return DeviceImages(pixels_NHWC, torch.arange(num) % 4)


class Judge(Network):
    """Sorts images by which quarter of the picture is brightest, and remembers what it saw."""

    def __init__(self, size_px: int = 32) -> None:
        def no_backbone(*_: object) -> object:
            return torch.nn.Identity()

        site = Site(no_backbone, size_px, 4, torch.zeros(3), torch.ones(3))  # type: ignore[arg-type]
        super().__init__(site, torch.nn.Identity())  # type: ignore[arg-type]
        self.seen: list[Batch] = []

    def forward(self, batch: Batch) -> Tensor:
        self.seen.append(batch)
        return quarters(batch.raw_BCHW)

    @property
    def num_seen(self) -> int:
        return sum(map(len, self.seen))


def quarters(x_BCHW: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(x_BCHW.mean(1, keepdim=True), 2).flatten(1)


def judged(images: DeviceImages) -> DeviceImages:
    """The images, each darker than the last but in the upper left, and labels that are right for most as they are."""
    pixels_NHWC, edge = images.pixels_NHWC.clone(), 3 * images.pixels_NHWC.shape[1] // 8
    for place, pixels_HWC in enumerate(pixels_NHWC):
        keep = 1 - place / len(images)
        pixels_HWC[edge:] = (pixels_HWC[edge:] * keep).byte()
        pixels_HWC[:, edge:] = (pixels_HWC[:, edge:] * keep).byte()
    images = DeviceImages(pixels_NHWC, images.labels_N)
    labels_N = quarters(images.raw(torch.arange(len(images)))).argmax(1)
    labels_N[::5] = (labels_N[::5] + 1) % 4
    return DeviceImages(pixels_NHWC, labels_N)


def by_torchvision(kind: str, value: float, x_BCHW: Tensor) -> Tensor:
    if kind == "rotation":  # documented as counter-clockwise
        return TF.rotate(x_BCHW, value, BILINEAR)
    # Documented as horizontal and vertical shifts, and a scale above 0.
    shift = {"shift_x": [value, 0.0], "shift_y": [0.0, value]}.get(kind, [0.0, 0.0])
    # It takes whole pixels only of what is an int: floats are passed on.
    return TF.affine(x_BCHW, 0.0, shift, value if kind == "scale" else 1.0, [0.0], BILINEAR)


def test_a_placement_is_torchvision_s():
    images = soft_images(4)
    raw_BCHW = images.raw(torch.arange(4))
    for kind, placement, value in [
        ("rotation", Placement(angle_deg=30), 30),
        ("rotation", Placement(angle_deg=-120), -120),
        ("scale", Placement(scale=0.6), 0.6),
        ("scale", Placement(scale=1.7), 1.7),
        ("shift_x", Placement(right_px=5), 5),
        ("shift_y", Placement(down_px=-3.5), -3.5),
    ]:
        found, _ = placement.move(raw_BCHW, images.poses)
        torch.testing.assert_close(found, by_torchvision(kind, value, raw_BCHW), atol=1e-4, rtol=0)


def test_nothing_is_moved_in_the_middle():
    images = soft_images(4)
    raw_BCHW = images.raw(torch.arange(4))
    assert torch.equal(Placement().move(raw_BCHW, images.poses)[0], raw_BCHW)


@pytest.mark.parametrize(("density", "numbers"), [("quick", (13, 5, 5, 5)), ("full", (25, 9, 9, 9))])
def test_every_point_is_that_of_images_moved_by_torchvision(density, numbers):
    images = judged(soft_images(12))
    found = measure_robustness(Judge(), images, dataclasses.replace(PROTOCOL, robustness=density))
    assert found is not None and found.num_images == 12
    raw_BCHW = images.raw(torch.arange(12))
    upright_N = quarters(raw_BCHW).argmax(1)
    for point in found.points:
        predicted_N = quarters(by_torchvision(point.kind, point.value, raw_BCHW)).argmax(1)
        assert point.accuracy == (predicted_N == images.labels_N).sum().item() / 12, point
        assert point.agreement == (predicted_N == upright_N).sum().item() / 12, point
    kinds = [point.kind for point in found.points]
    assert tuple(kinds.count(kind) for kind in ("rotation", "scale", "shift_x", "shift_y")) == numbers
    assert 0.2 < found.summary()["rotation_accuracy"] < 0.7  # or the comparison would be of nothing


@pytest.mark.parametrize("density", ["quick", "full"])
def test_grids(density):
    points = list(robustness.placements(robustness.DENSITIES[density], 32))
    values = {
        kind: [value for each, value, _ in points if each == kind]
        for kind in ("rotation", "scale", "shift_x", "shift_y")
    }
    assert {-180, -90, -30, 0, 30, 90, 180} <= set(values["rotation"])
    assert values["rotation"] == sorted(values["rotation"])
    assert (values["scale"][0], values["scale"][-1]) == (0.5, 2)
    np.testing.assert_allclose(np.diff(np.log(values["scale"])), np.log(values["scale"][1] / values["scale"][0]))
    assert values["shift_x"] == values["shift_y"]
    assert (min(values["shift_x"]), max(values["shift_x"])) == (-8, 8)
    middles = [placement == Placement() for kind, _, placement in points]
    assert sum(middles) == 4


def test_shifts_are_in_proportion_to_the_image():
    found = measure_robustness(Judge(60), judged(soft_images(2, 60)), PROTOCOL)
    assert found is not None
    assert max(point.value for point in found.points if point.kind == "shift_x") == 15
    assert found.worst_of_grid.max_px == pytest.approx(3 * 60 / 32)


def test_half_a_turn_counts_once():
    points = [Point("rotation", value, 0.9 if abs(value) == 180 else 0.6, 1.0) for value in (-180, -60, 60, 180)]
    corruptions = [CorruptionPoint("a", "geometric", 1, 0.2), CorruptionPoint("b", "photometric", 1, 0.4)]
    found = Robustness(10, points, WorstOfGrid(30.0, 3.0, 63, 0.1), corruptions)
    assert found.summary() == {
        "rotation_accuracy": pytest.approx((0.9 + 0.6 + 0.6) / 3),
        "corruption_accuracy": pytest.approx(0.3),
        "worst_of_grid_accuracy": 0.1,
    }


@pytest.mark.parametrize(("density", "angles", "shifts"), [("quick", 7, 3), ("full", 31, 5)])
def test_an_image_counts_if_it_is_right_at_every_point(density, angles, shifts):
    images = judged(soft_images(40))
    network = Judge()
    subjects = Subjects(network, images, PROTOCOL)
    network.seen.clear()
    found = robustness.measure_worst_of_grid(subjects, robustness.DENSITIES[density])
    raw_BCHW, right_N = images.raw(torch.arange(40)), torch.ones(40, dtype=torch.bool)
    for angle, right, down in itertools.product(
        np.linspace(-30, 30, angles), np.linspace(-3, 3, shifts), np.linspace(-3, 3, shifts)
    ):
        # About the centre first, then along the axes; torchvision turns clockwise here.
        moved_BCHW = TF.affine(raw_BCHW, -angle, [right, down], 1.0, [0.0], BILINEAR)
        right_N &= quarters(moved_BCHW).argmax(1) == images.labels_N
    assert found == WorstOfGrid(30.0, 3.0, angles * shifts**2, right_N.sum().item() / 40)
    assert 0 < found.accuracy < 0.6
    assert network.num_seen < 40 * found.num_points / 2  # what is lost is not asked again


def test_nothing_is_left_to_ask():
    images = soft_images(5)
    wrong_N = (quarters(images.raw(torch.arange(5))).argmax(1) + 1) % 4
    found = measure_robustness(Judge(), DeviceImages(images.pixels_NHWC, wrong_N), PROTOCOL)
    assert found is not None and found.worst_of_grid.accuracy == 0


def seen_by(name: str, **changes: object) -> tuple[list[Batch], Network]:
    """What the network is asked at the points that do not depend on its answers."""
    images = soft_images(9)
    network, seen = build(name, num_classes=4), list[Batch]()
    real: Callable[[Batch], Tensor] = network.forward

    def forward(batch: Batch) -> Tensor:
        seen.append(batch)
        return real(batch)

    network.forward = forward  # type: ignore[method-assign]
    protocol = dataclasses.replace(PROTOCOL, **changes)  # type: ignore[arg-type]
    with torch.inference_mode():
        subjects = Subjects(network, images, protocol)
        list(robustness.measure_curves(subjects, robustness.DENSITIES["quick"]))
        list(robustness.measure_corruptions(subjects, dict(CORRUPTIONS)))
    return seen, network


@pytest.mark.parametrize("name", [name for name in NETWORKS if "resnet18" not in name])
@torch.inference_mode()
def test_every_network_can_be_asked(name):
    protocol = dataclasses.replace(PROTOCOL, precision="bf16")
    subjects = Subjects(built(name), soft_images(3), protocol)
    for predicted_N in (
        subjects.predict_placed(subjects.places_N, Placement(angle_deg=30, scale=1.2)),
        subjects.predict_placed(subjects.places_N[:1], Placement(down_px=3)),
    ):
        assert ((predicted_N >= 0) & (predicted_N < 10)).all()
    chosen = {name: CORRUPTIONS[name] for name in ("elastic", "pixelate")}
    assert len(list(robustness.measure_corruptions(subjects, chosen))) == 10


def test_two_networks_are_shown_the_same_pixels():
    (one, _), (other, _) = seen_by("cnn@lenet"), seen_by("stn_affine@lenet")
    assert len(one) == len(other) > 100
    assert all(torch.equal(a.raw_BCHW, b.raw_BCHW) for a, b in zip(one, other, strict=True))


def test_pixels_stay_between_black_and_white_in_channels_last_memory():
    for batch in seen_by("cnn@lenet")[0]:
        assert batch.raw_BCHW.min() >= 0 and batch.raw_BCHW.max() <= 1
        assert batch.raw_BCHW.is_contiguous(memory_format=torch.channels_last)


def test_fewer_images_are_the_first_of_each_class_of_more():
    few, many = seen_by("cnn@lenet", robustness_images=4)[0], seen_by("cnn@lenet")[0]
    order_N = permutation(torch.arange(9), seed=0, epoch=0, purpose="robustness")
    labels_N = soft_images(9).labels_N
    places = sorted(order_N.tolist().index(int(i)) for i in stratified(order_N, labels_N, 4)[0])
    assert labels_N[order_N[places]].unique().tolist() == labels_N.unique().tolist()
    assert all(torch.equal(a.raw_BCHW, b.raw_BCHW[places]) for a, b in zip(few, many, strict=True))
    assert len(few[0]) == 4 and len(many[0]) == 9
    first_N = permutation(torch.arange(9), seed=0, epoch=0, purpose="robustness")
    assert torch.equal(many[0].raw_BCHW, soft_images(9).raw(first_N))


def test_the_size_of_batches_has_no_say(monkeypatch):
    images, network = judged(soft_images(9)), build("cnn@lenet", num_classes=4)
    whole = measure_robustness(network, images, PROTOCOL)
    monkeypatch.setattr(robustness, "BATCH_SIZE", 4)
    assert measure_robustness(network.train(), images, PROTOCOL) == whole
    torch.manual_seed(7)
    assert measure_robustness(network, images, PROTOCOL) == whole


def test_a_network_that_draws_gets_the_same_numbers_for_an_image_at_every_point():
    batches, _ = seen_by("stn_random@lenet")
    assert all(torch.equal(batch.u_BK, batches[0].u_BK) for batch in batches)
    assert batches[0].u_BK.shape == (9, 4) and len(batches[0].u_BK.unique()) == 36


def test_nothing_is_asked_if_the_protocol_asks_for_nothing():
    network = Judge()
    assert measure_robustness(network, soft_images(2), dataclasses.replace(PROTOCOL, robustness="none")) is None
    assert not network.seen


@pytest.mark.parametrize("density", ["quick", "full"])
def test_the_cost_is_known_before(density):
    """All points but those of the worst case, of which a part is guessed."""
    protocol = dataclasses.replace(PROTOCOL, robustness=density, robustness_images=5)
    images, network = judged(soft_images(12)), Judge()
    found = measure_robustness(network, images, protocol)
    assert found is not None
    guessed = 5 * found.worst_of_grid.num_points / 3
    before_worst = num_evaluations(protocol, 12) - guessed
    in_grid = network.num_seen - before_worst
    assert 0 < in_grid <= 5 * found.worst_of_grid.num_points
    assert num_evaluations(dataclasses.replace(protocol, robustness_images=0), 12) == pytest.approx(
        num_evaluations(protocol, 12) * 12 / 5
    )
    assert num_evaluations(dataclasses.replace(protocol, robustness="none"), 12) == 0


@pytest.mark.parametrize("pose", ["R", "RTS", "E"])
@pytest.mark.parametrize("placement", [Placement(angle_deg=60), Placement(scale=0.8, right_px=2)])
def test_the_oracle_undoes_pose_and_transformation(pose, placement):
    """What it looks at is upright, as it is under the pose alone."""
    upright = smooth_images(6)
    pixels_NHWC = (upright * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    posed_NHWC, poses = put_in_pose(pixels_NHWC, torch.arange(6), pose, part="test")
    network = build("oracle_unwarp@lenet")
    assert isinstance(network, GivenMapsNetwork)
    raw_BCHW = posed_NHWC.permute(0, 3, 1, 2).float() / 255
    moved_BCHW, both = placement.move(raw_BCHW, poses)
    u_BK = torch.empty(6, 0)
    # Where posing has kept the picture: far from the rim.
    seen = (no_pose(1).apply(base_grid(32, 32, CPU)).norm(dim=2) < 0.5).view(32, 32)
    errors = [
        (network.look(batch) - upright)[:, :, seen].abs().mean().item()
        for batch in (Batch(raw_BCHW, poses, u_BK), Batch(moved_BCHW, both, u_BK), Batch(moved_BCHW, poses, u_BK))
    ]
    assert errors[1] < errors[0] + 0.03
    assert errors[2] > 3 * errors[1]


def test_maps_of_images_posed_twice():
    turn, shrink = (
        PoseMaps(AffineMap(torch.tensor(theta).float()).projective().theta_B33)
        for theta in ([[[0, -1, 0.2], [1, 0, 0]]] * 2, [[[2, 0, 0], [0, 2, 0.1]], [[1, 0, 0], [0, 1, 0]]])
    )
    both, points_M2 = turn.then(shrink), torch.tensor([[0.1, 0.2], [-0.3, 0.4]])
    expected = [[[-2 * y - 0.1 + 0.2, 2 * x] for x, y in points_M2], [[-y + 0.2, x] for x, y in points_M2]]
    torch.testing.assert_close(both.apply(points_M2), torch.tensor(expected))
    torch.testing.assert_close(both.from_upright().apply(both.apply(points_M2)), points_M2.expand(2, 2, 2))
    torch.testing.assert_close(both[torch.tensor([1])].apply(points_M2), torch.tensor(expected[1:]))
    own_theta_223 = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]] * 2)
    shifted = both.before(own_theta_223).apply(points_M2)
    torch.testing.assert_close(shifted, torch.tensor(expected) + torch.tensor([0.5, 0]))


def test_posed_images_keep_their_disc_when_they_are_turned():
    pixels_NHWC = torch.full((3, 32, 32, 3), 200, dtype=torch.uint8)
    posed_NHWC, poses = put_in_pose(pixels_NHWC, torch.arange(3), "R", part="test")
    raw_BCHW = posed_NHWC.permute(0, 3, 1, 2).float() / 255
    turned_BCHW, _ = Placement(angle_deg=90).move(raw_BCHW, poses)
    torch.testing.assert_close(turned_BCHW, raw_BCHW.rot90(1, (2, 3)), atol=1e-4, rtol=0)
    assert turned_BCHW[:, :, ~disc_mask(no_pose(1), 32)[0, :, :, 0]].max() < 1e-4


def test_values_in_equal_steps():
    assert spread(180, 13) == list(range(-180, 181, 30))
    assert spread(30, 31) == list(range(-30, 31, 2))
    assert spread(math.pi, 7)[3] == 0.0
