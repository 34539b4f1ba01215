"""Guidance in closed form for turns, and the blur against scipy's."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from stn import TRANSFORMATIONS, Sampler, base_grid
from stn.affine import from_parts, identity
from stn.blur import BLURRED_SHARE, blur, sigma_px
from stn.guidance import consistency, prior, supervision
from stn.maps import AffineMap, Map, circle

CPU = torch.device("cpu")
angles = st.floats(-math.pi, math.pi)


def turns(angle_rad_B: Tensor) -> AffineMap:
    return AffineMap(from_parts(angle_rad_B=angle_rad_B))


def chord(angle_rad: float) -> float:
    """Squared distance between points of the unit circle that lie an angle apart."""
    return 2 * (1 - math.cos(angle_rad))


def blobs(angle_rad_B: Tensor, size_px: int = 64) -> Tensor:
    """Soft spots half-way to the edge, each in its direction from the centre: (B, 1, H, W)."""
    x, y = base_grid(size_px, size_px, CPU).T.view(2, 1, 1, size_px, size_px)
    centre_x, centre_y = (0.5 * f(angle_rad_B).view(-1, 1, 1, 1) for f in (torch.cos, torch.sin))
    return (-((x - centre_x) ** 2 + (y - centre_y) ** 2) / 0.02).exp()


def spot_angles(raw_B1HW: Tensor) -> Tensor:
    """Directions of the spots from the centre, by their centres of mass."""
    x, y = base_grid(*raw_B1HW.shape[2:], CPU).T.view(2, *raw_B1HW.shape[2:])
    return torch.atan2((raw_B1HW * y).sum((1, 2, 3)), (raw_B1HW * x).sum((1, 2, 3)))


@settings(max_examples=30)
@given(st.lists(angles, min_size=1, max_size=5))
def test_of_turns_it_is_the_mean_squared_chord(values):
    found = prior(turns(torch.tensor(values)), len(values), CPU)
    assert found.item() == pytest.approx(np.mean([chord(a) for a in values]), abs=1e-5)


@pytest.mark.parametrize("family", list(TRANSFORMATIONS))
def test_prior_is_nothing_at_the_identity_and_pulls_there(family):
    transformation = TRANSFORMATIONS[family]
    params_BP = (0.1 * torch.randn(3, transformation.num_params)).requires_grad_()
    before = prior(transformation(params_BP), 3, CPU)
    (slope_BP,) = torch.autograd.grad(before, params_BP)
    after = prior(transformation(params_BP - 0.01 * slope_BP), 3, CPU)
    assert 0 < after < before
    assert prior(transformation(torch.zeros_like(params_BP)), 3, CPU).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("angle_rad", [-2.0, -0.3, 0.3, 2.0])
def test_its_slope_is_twice_the_sine(angle_rad):
    angle_B = torch.tensor([angle_rad], requires_grad=True)
    prior(turns(angle_B), 1, CPU).backward()
    assert angle_B.grad is not None
    assert angle_B.grad.item() == pytest.approx(2 * math.sin(angle_rad), abs=1e-5)


def test_of_a_shift_it_is_its_squared_length():
    shift = AffineMap(torch.cat([identity(1)[:, :, :2], torch.tensor([[[0.3], [-0.4]]])], 2))
    assert prior(shift, 1, CPU).item() == pytest.approx(0.25, abs=1e-6)


def term_consistency(angle_B: Tensor, turn_B: Tensor, find: Callable[[Tensor], Map]) -> float:
    raw_B1HW = blobs(angle_B)
    return consistency(raw_B1HW, find(raw_B1HW), find, turn_B, Sampler()).item()


@settings(max_examples=10)
@given(st.lists(st.tuples(angles, angles), min_size=1, max_size=4))
def test_a_transformer_that_sees_the_pose_has_none_whatever_it_calls_upright(pairs):
    angle_B, turn_B = torch.tensor(pairs).unbind(1)
    assert term_consistency(angle_B, turn_B, lambda raw: turns(spot_angles(raw))) < 1e-4
    assert term_consistency(angle_B, turn_B, lambda raw: turns(spot_angles(raw) + 1.0)) < 1e-4


def test_one_that_sees_nothing_pays_for_every_turn():
    angle_B, turn_B = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.5, -1.0, 3.0])
    blind = term_consistency(angle_B, turn_B, lambda raw: turns(torch.full((len(raw),), 0.7)))
    assert blind == pytest.approx(np.mean([chord(a) for a in turn_B.tolist()]), abs=1e-5)


def test_one_that_turns_the_wrong_way_pays_for_twice_the_turn():
    angle_B, turn_B = torch.tensor([0.3, -1.0]), torch.tensor([0.4, -0.9])
    wrong = term_consistency(angle_B, turn_B, lambda raw: turns(-spot_angles(raw)))
    assert wrong == pytest.approx(np.mean([chord(2 * a) for a in turn_B.tolist()]), abs=2e-3)


def test_nothing_is_gained_by_looking_at_less():
    """A constant map of any size pays the same: in input coordinates a tiny one would seem consistent."""
    raw_B1HW, angle_rad_B = torch.rand(16, 1, 16, 16), torch.linspace(-3, 3, 16)
    size = torch.tensor(0.5, requires_grad=True)

    def look(raw: Tensor) -> Map:
        return AffineMap(identity(len(raw)) * size)

    term = consistency(raw_B1HW, look(raw_B1HW), look, angle_rad_B, Sampler())
    assert term.item() == pytest.approx((2 * (1 - angle_rad_B.cos())).mean().item(), rel=1e-4)
    (slope,) = torch.autograd.grad(term, size)
    assert slope.item() == pytest.approx(0, abs=1e-4)


def test_its_slopes_pull_both_maps_together():
    raw_B1HW = blobs(torch.zeros(1))
    here_B, there_B = torch.tensor([0.2], requires_grad=True), torch.tensor([-0.1], requires_grad=True)
    consistency(raw_B1HW, turns(here_B), lambda raw: turns(there_B), torch.tensor([0.5]), Sampler()).backward()
    # turn . found is a turn by 0.5 - 0.1, the map one by 0.2.
    assert here_B.grad is not None and there_B.grad is not None
    assert here_B.grad.item() == pytest.approx(-2 * math.sin(0.4 - 0.2), abs=1e-5)
    assert there_B.grad.item() == pytest.approx(2 * math.sin(0.4 - 0.2), abs=1e-5)


def test_the_further_turned_images_are_what_the_network_sees():
    seen: list[Tensor] = []

    def find(raw_B1HW: Tensor) -> Map:
        seen.append(raw_B1HW)
        return turns(torch.zeros(len(raw_B1HW)))

    term_consistency(torch.tensor([0.9]), torch.tensor([0.5]), find)
    # The picture turns against the coordinates at which it is looked up.
    assert [spot_angles(raw).item() for raw in seen] == pytest.approx([0.9, 0.4], abs=1e-2)


@settings(max_examples=30)
@given(st.lists(st.tuples(angles, angles), min_size=1, max_size=4))
def test_of_turns_it_is_the_mean_squared_chord_of_the_error(pairs):
    found_B, true_B = torch.tensor(pairs).unbind(1)
    term = supervision(turns(found_B), turns(true_B).apply(circle(CPU)))
    assert term.item() == pytest.approx(np.mean([chord(a - b) for a, b in pairs]), abs=1e-5)


def test_supervision_is_nothing_at_the_truth_and_pulls_there():
    theta_B23 = identity(3) + 0.3 * torch.randn(3, 2, 3)
    true_BN2 = AffineMap(theta_B23).apply(circle(CPU))
    assert supervision(AffineMap(theta_B23), true_BN2).item() == 0
    found = identity(3).requires_grad_()
    (slope,) = torch.autograd.grad(supervision(AffineMap(found), true_BN2), found)
    # A quadratic with one minimum: downhill points to it.
    assert (slope * (found - theta_B23)).sum() > 0
    assert supervision(AffineMap(found - 0.1 * slope), true_BN2) < supervision(AffineMap(found), true_BN2)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.3, 4.0])
@pytest.mark.parametrize("size_px", [(32, 32), (15, 23), (5, 9)])
def test_blur_is_scipy_s(sigma, size_px):
    x_BCHW = torch.rand(2, 3, *size_px, dtype=torch.float64)
    reach = min(math.ceil(3 * sigma), min(size_px) - 1)
    expected = ndimage.gaussian_filter(x_BCHW.numpy(), sigma, mode="nearest", radius=reach, axes=(2, 3))
    np.testing.assert_allclose(blur(x_BCHW, sigma), expected, atol=1e-12)


def test_a_uniform_image_stays_and_channels_do_not_mix():
    x_BCHW = torch.ones(1, 3, 16, 16) * torch.tensor([0.0, 0.5, 1.0])[:, None, None]
    torch.testing.assert_close(blur(x_BCHW, 3.0), x_BCHW)


def test_almost_none_is_none():
    x_BCHW = torch.rand(1, 1, 8, 8)
    assert blur(x_BCHW, 0.0999) is x_BCHW
    assert blur(x_BCHW, 0.0) is x_BCHW


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_type_stays(dtype):
    assert blur(torch.rand(1, 3, 8, 8).to(dtype), 1.0).dtype == dtype


def test_a_blurred_image_tells_a_map_where_to_go_from_afar():
    """The aim of it: a spot five pixels off has no slope, a blurred one has."""
    spot = torch.zeros(1, 1, 32, 32)
    spot[0, 0, 16, 22] = 1.0

    def slope(raw: Tensor) -> float:
        theta = identity(1)
        theta[:, 0, 2] = 1 / 32  # to the centre of pixel 16
        theta[:, 1, 2] = 1 / 32
        theta.requires_grad_()
        Sampler()(raw, AffineMap(theta), (1, 1)).sum().backward()
        assert theta.grad is not None
        return theta.grad[0, 0, 2].item()

    assert slope(spot) == 0
    assert slope(blur(spot, 3.0)) > 0


def test_the_schedule_falls_to_nothing_by_the_middle_of_training():
    assert BLURRED_SHARE == 0.5
    schedule = [sigma_px(4.0, progress) for progress in (0.0, 0.125, 0.25, 0.375, 0.5, 0.7, 1.0)]
    assert schedule == pytest.approx([4, 3, 2, 1, 0, 0, 0])
    assert sigma_px(0.0, 0.0) == 0
