"""Poses: each image's is its own, for ever; what the disc hides, and which way pictures turn."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from experiments.draws import uniform
from experiments.errors import UserError
from experiments.poses import POSES, check_pose, disc_mask, put_in_pose
from stn.affine import inverse
from stn.sampler import warp

POSED = [pose for pose in POSES if pose != "upright"]
every_pose = pytest.mark.parametrize("pose", POSED)
u01 = st.floats(0, 1, exclude_max=True, width=32)


@pytest.fixture(autouse=True)
def same_numbers_in_one_thread() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def pixels(num: int, size_px: int = 32) -> Tensor:
    return torch.randint(0, 256, (num, size_px, size_px, 3), dtype=torch.uint8)


def thetas(pose: str, u_NK: Tensor) -> Tensor:
    draw_theta = POSES[pose]
    assert draw_theta is not None
    return draw_theta(u_NK)


def test_upright_images_stay_as_they_are():
    x_NHWC = pixels(5)
    assert torch.equal(put_in_pose(x_NHWC, torch.arange(5), "upright", part="train"), x_NHWC)


@every_pose
def test_the_pose_is_a_function_of_part_and_index_alone(pose):
    x_NHWC, index_N = pixels(40), torch.arange(100, 140)
    together = put_in_pose(x_NHWC, index_N, pose, part="train")
    torch.manual_seed(7)
    assert torch.equal(put_in_pose(x_NHWC, index_N, pose, part="train"), together)
    order = torch.randperm(40)
    assert torch.equal(put_in_pose(x_NHWC[order], index_N[order], pose, part="train"), together[order])
    for few in (slice(0, 1), slice(5, 12), slice(12, 40)):
        assert torch.equal(put_in_pose(x_NHWC[few], index_N[few], pose, part="train"), together[few])


def test_images_are_posed_in_chunks_without_seams():
    x_NHWC, index_N = pixels(2060, 8), torch.arange(2060)
    together = put_in_pose(x_NHWC, index_N, "R", part="train")
    assert together.shape == x_NHWC.shape
    assert torch.equal(put_in_pose(x_NHWC[2040:], index_N[2040:], "R", part="train"), together[2040:])


@every_pose
def test_parts_and_images_are_posed_differently(pose):
    x_NHWC = pixels(1).expand(30, -1, -1, -1)
    index_N = torch.arange(30)
    train, test = (put_in_pose(x_NHWC, index_N, pose, part=part) for part in ("train", "test"))
    assert (train != test).flatten(1).any(1).all()
    assert len({image.numpy().tobytes() for image in train}) == 30


def test_poses_are_drawn_apart():
    index_N = torch.arange(100)
    angles = [
        torch.atan2(theta[:, 1, 0], theta[:, 0, 0])
        for pose in POSED
        for theta in [thetas(pose, uniform(index_N, 4, seed=0, epoch=0, purpose=f"pose {pose} train"))]
    ]
    assert abs(torch.corrcoef(torch.stack(angles))[0, 1]) < 0.35


@every_pose
@pytest.mark.parametrize("size_px", [16, 31, 32])
def test_what_is_outside_the_disc_is_black_and_what_is_inside_is_the_warped_picture(pose, size_px):
    x_NHWC, index_N = pixels(6, size_px), torch.arange(6)
    posed = put_in_pose(x_NHWC, index_N, pose, part="test")
    assert posed.dtype == torch.uint8
    mask = disc_mask(size_px, torch.device("cpu"))
    assert not posed[:, ~mask].any()
    theta_in_to_out = thetas(pose, uniform(index_N, 4, seed=0, epoch=0, purpose=f"pose {pose} test"))
    warped = warp(x_NHWC.permute(0, 3, 1, 2).float(), inverse(theta_in_to_out)).permute(0, 2, 3, 1)
    assert (posed.float() - warped)[:, mask].abs().max() <= 0.5 + 1e-3


@given(st.integers(1, 65))
def test_the_disc_touches_the_edges_and_is_symmetric(size_px):
    mask = disc_mask(size_px, torch.device("cpu"))
    assert mask.dtype == torch.bool
    for other in (mask.flip(0), mask.flip(1), mask.T):
        assert torch.equal(mask, other)
    assert mask[0].any()
    assert mask[size_px // 2].all()
    if size_px >= 8:
        assert not mask[0, 0]
        assert mask.float().mean() == pytest.approx(math.pi / 4, abs=1 / size_px)


def test_a_uniform_picture_does_not_reveal_its_angle():
    """Without the disc the black corners would."""
    white = torch.full((20, 32, 32, 3), 255, dtype=torch.uint8)
    posed = put_in_pose(white, torch.arange(20), "R", part="train")
    # Bilinear sampling darkens the rim, where the disc touches the frame, by less than one pixel's width.
    inner = disc_mask(30, torch.device("cpu"))
    assert (posed[:, 1:-1, 1:-1][:, inner] == 255).all()


@given(u01)
def test_r_turns_by_up_to_90_degrees(u):
    theta = thetas("R", torch.tensor([[u, 0.1, 0.2, 0.3]]))[0].double()
    angle_deg = math.degrees(math.atan2(theta[1, 0], theta[0, 0]))
    assert angle_deg == pytest.approx(-90 + 180 * u, abs=1e-4)
    assert -90 - 1e-4 <= angle_deg <= 90 + 1e-4
    torch.testing.assert_close(theta[:, :2] @ theta[:, :2].T, torch.eye(2).double(), atol=1e-6, rtol=0)
    assert not theta[:, 2].any()


@given(u01, u01, u01, u01)
def test_rts_turns_scales_and_shifts_in_its_ranges(turn, grow, right, down):
    theta = thetas("RTS", torch.tensor([[turn, grow, right, down]]))[0].double()
    scale = theta[:, :2].det().sqrt().item()
    assert math.degrees(math.atan2(theta[1, 0], theta[0, 0])) == pytest.approx(-45 + 90 * turn, abs=1e-4)
    assert scale == pytest.approx(0.7 + 0.5 * grow, abs=1e-5)
    torch.testing.assert_close(theta[:, :2] @ theta[:, :2].T, scale**2 * torch.eye(2).double(), atol=1e-5, rtol=0)
    # Normalised coordinates are 2 wide, so 5/32 of the side are 10/32.
    assert theta[:, 2].tolist() == pytest.approx([(2 * right - 1) * 10 / 32, (2 * down - 1) * 10 / 32], abs=1e-6)


def test_a_positive_angle_turns_the_picture_clockwise(monkeypatch):
    monkeypatch.setitem(POSES, "R", lambda u_NK: thetas("RTS", torch.tensor([[1.0, 0.6, 0.5, 0.5]])))
    x_NHWC = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    x_NHWC[0, 14:18, 24:28] = 255  # to the right of the centre
    posed_HW = put_in_pose(x_NHWC, torch.arange(1), "R", part="train")[0, :, :, 0].double()
    row, column = ((posed_HW.sum(1 - axis) * torch.arange(32)).sum() / posed_HW.sum() - 15.5 for axis in (0, 1))
    assert math.degrees(math.atan2(row, column)) == pytest.approx(45, abs=1)


def test_an_unknown_pose_is_refused_with_the_nearest():
    for pose in POSES:
        check_pose(pose)
    with pytest.raises(UserError, match=r"^pose: 'uprihgt' is unknown; did you mean 'upright'\?$"):
        check_pose("uprihgt")
    with pytest.raises(UserError, match=r"known: R, RTS, upright$"):
        check_pose("xyz")
