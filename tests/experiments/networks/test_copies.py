"""Copies that are turned, scaled and shifted, against scipy; and the one of them that undoes a planted similarity."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from experiments.images.poses import affine_pose, parse_pose, put_in_pose
from experiments.networks.copies import Copies
from experiments.networks.models.canonical import CanonicalNetwork
from experiments.networks.network import Batch
from experiments.runs.diagnostics import find_maps
from experiments.runs.images import DeviceImages
from stn.maps import AffineMap
from stn.sampler import Sampler
from tests.support.networks import build

TURNS = "canonical:num_turns=4:num_scales=3:num_shifts=3:max_scale=1.25:max_shift=0.125:scorer=lenet"
ANGLES_DEG, SCALES, SHIFTS = (0.0, 90.0, 180.0, 270.0), (1.0, 0.8, 1.25), (0.0, -0.25, 0.25)


def smooth(num: int, size: int = 32) -> Tensor:
    """Patterns that no turn, scale or shift brings over each other, dark towards their edges."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(num, 3, size, size)), (0, 0, 2, 2))
    side = np.linspace(-1, 1, size)
    window = np.exp(-3 * (side[:, None] ** 2 + side**2))
    return torch.tensor((noise / noise.std() / 4 + 0.5).clip(0, 1) * window, dtype=torch.float32)


def looked_at(x_CHW: np.ndarray, angle_deg: float, scale: float, shift_px: tuple[float, float]) -> np.ndarray:
    """What lies at scale * (a pixel's place, turned from x to y) + shift, all from the middle; by scipy."""
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    matrix = scale * np.array([[cos, sin], [-sin, cos]])  # of (y, x)
    middle = np.full(2, (x_CHW.shape[1] - 1) / 2)
    offset = middle - matrix @ middle + np.array(shift_px[::-1])
    return np.stack([ndimage.affine_transform(x, matrix, offset, order=1, mode="grid-constant") for x in x_CHW])


def network_of(name: str) -> CanonicalNetwork:
    network = build(name).eval()
    assert isinstance(network, CanonicalNetwork)
    return network


def test_copies_are_what_scipy_makes_under_their_maps() -> None:
    x_BCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    copies = Copies([0.0, 30.0, 120.0], [1.0, 0.8], [0.0, 0.1])
    copies_KBCHW = copies(x_BCHW)
    parts = list(product((0.0, 30.0, 120.0), (1.0, 0.8), product((0.0, 0.1), (0.0, 0.1))))
    assert len(copies) == len(parts) == 24 and torch.equal(copies_KBCHW[0], x_BCHW)
    for index, (angle_deg, scale, (x, y)) in enumerate(parts):
        if angle_deg == 120:  # a quarter, then the rest, which the shift is part of
            x, y = -y, x
        expected = looked_at(x_BCHW[1].numpy(), angle_deg, scale, (16 * x, 16 * y))
        np.testing.assert_allclose(copies_KBCHW[index, 1], expected, atol=1e-4)
        point_12 = torch.tensor([[0.5, -0.25]])
        cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        sent = (scale * (0.5 * cos + 0.25 * sin) + x, scale * (0.5 * sin - 0.25 * cos) + y)
        found = copies.maps(torch.tensor([index])).apply(point_12)[0, 0]
        np.testing.assert_allclose(found, sent, atol=1e-6)
    index_B = torch.tensor([5, 19])
    each_BCHW = torch.stack([copies_KBCHW[5, 0], copies_KBCHW[19, 1]])
    assert torch.equal(copies.each(x_BCHW, index_B), each_BCHW)


@pytest.mark.parametrize("num_turns", [4, 8])
@pytest.mark.parametrize("image_px", [32, 27])
def test_an_image_turned_by_a_quarter_has_the_same_copies_in_another_order_bit_for_bit(
    num_turns: int, image_px: int
) -> None:
    """And their maps, turned by that quarter, are those that these copies had."""
    copies = network_of(TURNS.replace("num_turns=4", f"num_turns={num_turns}")).copies
    x_BCHW = torch.rand(1, 3, image_px, image_px)
    before_KX, after_KX = (copies(each_BCHW).flatten(1) for each_BCHW in (x_BCHW, x_BCHW.rot90(1, (2, 3))))
    place_K = [[k for k, before_X in enumerate(before_KX) if torch.equal(before_X, after_X)] for after_X in after_KX]
    assert sorted(place_K) == [[k] for k in range(num_turns * 3 * 9)]
    theta_K23 = copies.theta_K23[[place for (place,) in place_K]]
    quarter_23 = torch.tensor([[0.0, -1, 0], [1, 0, 0]])
    moved = AffineMap(quarter_23.expand(len(copies), 2, 3)).compose(AffineMap(copies.theta_K23))
    assert isinstance(moved, AffineMap)
    torch.testing.assert_close(moved.theta_B23, theta_K23, atol=1e-6, rtol=0)


class Oracle(nn.Module):
    """Scores a normalised copy by how near its middle is to that of the image that was hidden."""

    def __init__(self, hidden_CHW: Tensor) -> None:
        super().__init__()
        self.hidden_CHW = hidden_CHW

    def forward(self, x_NCHW: Tensor) -> Tensor:
        middle = (slice(None), slice(None), slice(8, 24), slice(8, 24))
        return -(x_NCHW - self.hidden_CHW)[middle].square().mean((1, 2, 3))[:, None]


def test_the_copy_that_undoes_a_planted_similarity_is_chosen_said_and_shown() -> None:
    network, upright_BCHW = network_of(TURNS), smooth(1)
    plants = list(product(ANGLES_DEG, SCALES, product(SHIFTS, SHIFTS)))[::5]
    posed = []
    for angle_deg, scale, (x, y) in plants:  # planted by scipy: turned, scaled and shifted as a pose does it
        cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        back = (-(cos * x + sin * y) / scale * 16, -(-sin * x + cos * y) / scale * 16)
        posed.append(looked_at(upright_BCHW[0].numpy(), -angle_deg, 1 / scale, back))
    posed_BCHW = torch.tensor(np.stack(posed), dtype=torch.float32)
    network.localisation = Oracle(network.normalise(upright_BCHW)[0])
    batch = Batch.of(posed_BCHW)
    with torch.inference_mode():
        (maps,), seen_BCHW = network.maps(batch), network.look(batch)
    assert isinstance(maps, AffineMap)
    for (angle_deg, scale, shift), theta_23 in zip(plants, maps.theta_B23.numpy(), strict=True):
        assert math.degrees(math.atan2(theta_23[1, 0], theta_23[0, 0])) % 360 == pytest.approx(angle_deg, abs=1e-3)
        assert math.hypot(theta_23[0, 0], theta_23[1, 0]) == pytest.approx(scale)
        np.testing.assert_allclose(theta_23[:, 2], shift, atol=1e-6)
    middle = (slice(None), slice(None), slice(10, 22), slice(10, 22))
    assert (seen_BCHW - upright_BCHW)[middle].abs().max() < 0.1 < (posed_BCHW - upright_BCHW)[middle].abs().max()

    # Told the truth, it would be told to choose the same.
    angle_deg_B, scale_B, shift_B = zip(*plants, strict=True)
    angle_B = torch.tensor(angle_deg_B).deg2rad()
    linear_B22 = torch.stack([angle_B.cos(), -angle_B.sin(), angle_B.sin(), angle_B.cos()], 1).view(-1, 2, 2)
    place_B21 = torch.tensor(shift_B)[:, :, None]
    theta_B23 = torch.cat([torch.tensor(scale_B)[:, None, None] * linear_B22, place_B21], 2)
    told = replace(batch, poses=affine_pose(theta_B23))
    assert torch.equal(network.nearest(told), network.likeliest(posed_BCHW))


def test_the_nearest_copy_leaves_of_a_pose_what_lies_between_copies() -> None:
    """Of turns half a step, of sizes the root of one, of shifts half a step: it is told nothing farther away."""
    name = "canonical:num_turns=9:max_deg=45:num_scales=3:num_shifts=3:max_scale=1.4:max_shift=0.15:supervision=1"
    network = network_of(name)
    poses = parse_pose("RTS:min_scale=0.72:max_scale=1.39:shift=0.15").draw(torch.rand(500, 4), 32)
    left = network.nearest(Batch(torch.zeros(500, 3, 32, 32), poses, torch.zeros(500, 0)))
    found, true = network.copies.theta_K23[left], torch.linalg.inv(poses.theta_N33)[:, :2]
    angle = torch.atan2(found[:, 1, 0], found[:, 0, 0]) - torch.atan2(true[:, 1, 0], true[:, 0, 0])
    scale = torch.linalg.det(found[:, :, :2]).log() / 2 - torch.linalg.det(true[:, :, :2]).log() / 2
    assert angle.rad2deg().abs().max() <= 45 / 8 + 1e-3
    assert scale.abs().max() <= math.log(1.4) / 2 + 0.05  # nearest by distance, which a ratio is not
    assert (found - true)[:, :, 2].abs().max() <= 0.15 + 1e-5


def test_the_diagnosis_finds_angle_size_and_place() -> None:
    """Of images under RTS, by a network that chooses the copy nearest to their true pose."""
    network = network_of("canonical:num_turns=9:max_deg=45:num_scales=3:num_shifts=3:supervision=1:scorer=lenet")
    pixels_NHWC = (smooth(200).permute(0, 2, 3, 1) * 255).to(torch.uint8)
    posed_NHWC, poses = put_in_pose(pixels_NHWC, torch.arange(200), "RTS", part="train")
    images = DeviceImages(posed_NHWC, torch.arange(200) % 10, poses)
    network.maps = lambda batch: [network.copies.maps(network.nearest(batch))]  # type: ignore[method-assign]
    found = find_maps(network, images, "fp32")
    assert found is not None
    diagnosis = found.describe()
    assert diagnosis.verdict == "working" and diagnosis.pose is not None
    assert diagnosis.pose.angle_error_deg is not None and diagnosis.pose.angle_error_deg < 45 / 8
    for r2, least in (
        (diagnosis.pose.angle_r2, 0.95),
        (diagnosis.pose.log_scale_r2, 0.6),
        (diagnosis.pose.shift_r2, 0.6),
    ):
        assert r2 is not None and r2 > least


def test_told_the_pose_it_learns_to_undo_size_and_place() -> None:
    """In three steps, since of all copies the right one alone always looks the same."""
    name = (
        "canonical:num_turns=1:num_scales=3:num_shifts=3:max_scale=1.5:max_shift=0.2:supervision=1:scorer=lenet@lenet"
    )
    torch.manual_seed(0)
    network = network_of(name)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(4):
        index_B = torch.randint(0, len(network.copies), (32,))
        x_BCHW = torch.rand(32, 3, 32, 32) * 0.2
        x_BCHW[:, :, 12:20, 12:20] = 1.0
        maps = network.copies.maps(index_B)
        batch = Batch(Sampler()(x_BCHW, maps.inverse()), affine_pose(maps.theta_B23), torch.zeros(32, 0))
        if step == 3:
            break
        _, penalty = network.train().logits_and_penalty(batch)
        assert penalty is not None
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
    with torch.inference_mode():
        assert (network.eval().likeliest(batch.raw_BCHW) == index_B).float().mean() > 0.9  # one in 27 by chance
