"""Families of maps against their definitions in float64, and what each promises."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from stn import TRANSFORMATIONS, Sampler, base_grid
from stn.maps import AffineMap, Map, ProjectiveMap
from stn.spline import SplineMap, control_points

Array = npt.NDArray[np.float64]

every_family = pytest.mark.parametrize("family", list(TRANSFORMATIONS))
NUM_PARAMS = {
    "translation": 2,
    "attention": 3,
    "rotation": 2,
    "similarity": 4,
    "affine": 6,
    "projective": 8,
    "tps": 32,
}


def matrix_of(family: str, p: Array) -> Array:
    """The 3x3 matrix of one image's parameters, from the papers' equations."""
    eye = np.eye(3)
    if family == "translation":
        return eye + np.array([[0, 0, p[0]], [0, 0, p[1]], [0, 0, 0]])
    if family == "attention":
        return np.array([[1 + p[0], 0, p[1]], [0, 1 + p[0], p[2]], [0, 0, 1]])
    if family == "rotation":
        angle = math.atan2(p[1], 1 + p[0])
        return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    if family == "similarity":
        angle, scale = math.atan2(p[1], 1 + p[0]), math.hypot(1 + p[0], p[1])
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return np.vstack([np.column_stack([scale * turn, p[2:]]), [0, 0, 1]])
    return eye + np.append(p, np.zeros(9 - len(p))).reshape(3, 3)  # affine and projective


def send(family: str, params_BP: Array, points_N2: Array) -> Array:
    """Where the family's maps send points, (B, N, 2)."""
    if family == "tps":
        control = control_points(dtype=torch.float64).numpy()
        return np.stack(
            [
                points_N2 + RBFInterpolator(control, p.reshape(16, 2), kernel="thin_plate_spline", degree=1)(points_N2)
                for p in params_BP
            ]
        )
    points_3N = np.vstack([points_N2.T, np.ones(len(points_N2))])
    sent_B3N = np.stack([matrix_of(family, p) @ points_3N for p in params_BP])
    return (sent_B3N[:, :2] / sent_B3N[:, 2:]).transpose(0, 2, 1)


def theta_of(found: Map) -> Array:
    assert isinstance(found, AffineMap)
    return found.theta_B23.double().numpy()


def smooth_images(num: int, size_px: int) -> Tensor:
    """A few slow waves, (B, 1, H, W)."""
    x, y = base_grid(size_px, size_px, torch.device("cpu")).T.view(2, size_px, size_px)
    waves = [torch.sin(2 * x + 3 * y + i) + torch.cos(3 * x - 2 * y + 2 * i) for i in range(num)]
    return torch.stack(waves)[:, None] / 2


class Inverse:
    """Splines backwards, as a map."""

    def __init__(self, bend: SplineMap) -> None:
        self.bend = bend

    def apply(self, points: Tensor) -> Tensor:
        return self.bend.apply_inverse(points)


def test_all_are_tested_here():
    assert {family: t.num_params for family, t in TRANSFORMATIONS.items()} == NUM_PARAMS


@every_family
def test_points_go_where_the_definition_says(family):
    generator = np.random.default_rng(0)
    params_BP = generator.normal(0, 0.2, (5, NUM_PARAMS[family]))
    points_N2 = generator.uniform(-1, 1, (20, 2))
    sent = TRANSFORMATIONS[family](torch.from_numpy(params_BP).float()).apply(torch.from_numpy(points_N2).float())
    np.testing.assert_allclose(sent, send(family, params_BP, points_N2), atol=3e-5)


@every_family
def test_gradients_are_the_slopes_of_the_definition(family):
    generator = np.random.default_rng(1)
    params_BP = generator.normal(0, 0.2, (2, NUM_PARAMS[family]))
    points_N2 = generator.uniform(-1, 1, (10, 2))
    weight_BN2 = generator.normal(size=(2, 10, 2))
    slopes_BP, step = np.zeros_like(params_BP), 1e-5
    for place in np.ndindex(params_BP.shape):
        nudge = np.zeros_like(params_BP)
        nudge[place] = step
        high, low = (send(family, params_BP + sign * nudge, points_N2) for sign in (1, -1))
        slopes_BP[place] = ((high - low) * weight_BN2).sum() / (2 * step)
    params = torch.from_numpy(params_BP).float().requires_grad_()
    sent = TRANSFORMATIONS[family](params).apply(torch.from_numpy(points_N2).float())
    (sent * torch.from_numpy(weight_BN2)).sum().backward()
    assert params.grad is not None
    np.testing.assert_allclose(params.grad, slopes_BP, rtol=1e-4, atol=2e-4)


@every_family
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("gradient", ["bilinear", "linearised"])
def test_zeros_leave_the_image_as_it_is_bit_for_bit(family, padding, gradient):
    x_BCHW = torch.rand(3, 3, 32, 32)
    params_BP = torch.zeros(3, NUM_PARAMS[family], requires_grad=True)
    seen = Sampler(padding, gradient=gradient)(x_BCHW, TRANSFORMATIONS[family](params_BP))
    assert torch.equal(seen, x_BCHW)
    (seen * torch.randn_like(seen)).sum().backward()
    assert params_BP.grad is not None and params_BP.grad.isfinite().all()
    # Every parameter matters at the start, but for the length of a direction.
    matters = (params_BP.grad.abs() > 1e-6).any(0).tolist()
    assert matters == ([False, True] if family == "rotation" else [True] * NUM_PARAMS[family])


@every_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_maps_are_float32_whatever_the_network_s_numbers(family, dtype):
    found = TRANSFORMATIONS[family](0.1 * torch.randn(2, NUM_PARAMS[family]).to(dtype))
    assert found.apply(torch.rand(4, 2)).dtype == torch.float32


@every_family
def test_a_batch_of_none_is_a_batch(family):
    assert TRANSFORMATIONS[family](torch.zeros(0, NUM_PARAMS[family])).apply(torch.rand(4, 2)).shape == (0, 4, 2)


def params_forms(family: str) -> Tensor:
    return 0.5 * torch.randn(200, NUM_PARAMS[family])


def test_translations_keep_directions():
    theta = theta_of(TRANSFORMATIONS["translation"](params_forms("translation")))
    np.testing.assert_array_equal(theta[:, :, :2], np.tile(np.eye(2), (200, 1, 1)))


def test_attention_is_isotropic_and_does_not_turn():
    theta = theta_of(TRANSFORMATIONS["attention"](params_forms("attention")))
    np.testing.assert_array_equal(theta[:, 0, 0], theta[:, 1, 1])
    assert not theta[:, [0, 1], [1, 0]].any()


def test_rotations_are_orthogonal_and_about_the_centre():
    theta = theta_of(TRANSFORMATIONS["rotation"](4 * params_forms("rotation")))
    linear = theta[:, :, :2]
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), np.tile(np.eye(2), (200, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-6)
    assert not theta[:, :, 2].any()
    angles_deg = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert angles_deg.min() < -150 and angles_deg.max() > 150, "all turns can be reached"


def test_a_direction_of_length_zero_has_finite_points_and_gradients():
    params_12 = torch.tensor([[-1.0, 0.0]], requires_grad=True)
    sent = TRANSFORMATIONS["rotation"](params_12).apply(torch.rand(4, 2))
    sent.sum().backward()
    assert sent.isfinite().all()
    assert params_12.grad is not None and params_12.grad.isfinite().all()


def test_similarities_keep_shapes():
    linear = theta_of(TRANSFORMATIONS["similarity"](params_forms("similarity")))[:, :, :2]
    square = linear @ linear.transpose(0, 2, 1)
    scale = np.sqrt(np.linalg.det(linear))
    np.testing.assert_allclose(square, scale[:, None, None] ** 2 * np.eye(2), atol=1e-5)


def test_projective_maps_hold_their_last_number():
    found = TRANSFORMATIONS["projective"](params_forms("projective"))
    assert isinstance(found, ProjectiveMap)
    assert (found.theta_B33[:, 2, 2] == 1).all()


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e6])
def test_wild_projective_maps_have_finite_images_and_gradients(factor):
    params_BP = (factor * torch.randn(20, 8)).requires_grad_()
    seen = Sampler()(torch.rand(20, 3, 16, 16), TRANSFORMATIONS["projective"](params_BP))
    assert seen.isfinite().all()
    seen.sum().backward()
    assert params_BP.grad is not None and params_BP.grad.isfinite().all()


@every_family
def test_those_that_compose_have_maps_that_do(family):
    transformation = TRANSFORMATIONS[family]
    first, second = (transformation(0.2 * torch.randn(3, NUM_PARAMS[family])) for _ in range(2))
    assert transformation.composes == hasattr(first, "compose") == hasattr(first, "inverse")
    if isinstance(first, AffineMap | ProjectiveMap) and isinstance(second, AffineMap | ProjectiveMap):
        points_N2 = 0.5 * torch.rand(6, 2)
        in_turn = first.apply(second.apply(points_N2))
        torch.testing.assert_close(first.compose(second).apply(points_N2), in_turn, atol=1e-5, rtol=1e-4)


@every_family
def test_those_that_turn_hold_a_turn_and_the_others_hold_none(family):
    control = control_points(dtype=torch.float64).numpy()
    cos, sin = math.cos(0.5), math.sin(0.5)
    turn_22 = np.array([[cos, -sin], [sin, cos]])
    turning = {
        "rotation": [cos - 1, sin],
        "similarity": [cos - 1, sin, 0, 0],
        "affine": [cos - 1, -sin, 0, sin, cos - 1, 0],
        "projective": [cos - 1, -sin, 0, sin, cos - 1, 0, 0, 0],
        "tps": (control @ turn_22.T - control).ravel(),
    }
    assert TRANSFORMATIONS[family].turns == (family in turning)
    points_N2 = torch.rand(6, 2) - 0.5
    if family in turning:
        sent = TRANSFORMATIONS[family](torch.from_numpy(np.array([turning[family]])).float()).apply(points_N2)
        np.testing.assert_allclose(sent[0], points_N2.numpy() @ turn_22.T, atol=1e-5)
    else:
        linear = theta_of(TRANSFORMATIONS[family](params_forms(family)))[:, :, :2]
        assert not (linear[:, 1, 0] - linear[:, 0, 1]).any()


def undo(found: Map) -> Map:
    if isinstance(found, SplineMap):
        return Inverse(found)
    assert isinstance(found, AffineMap | ProjectiveMap)
    return found.inverse()


@every_family
@settings(max_examples=8)
@given(st.integers(0, 10_000))
def test_a_warp_and_its_inverse_restore_a_smooth_picture(family, seed):
    """Bilinear sampling of such slow waves on 64 px is exact to (3.6 / 32)^2 / 8 = 0.0016 each time."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    most = {"projective": 0.12, "tps": 0.1}.get(family, 0.2)
    params_BP = most * (2 * torch.rand(4, NUM_PARAMS[family], generator=generator) - 1)
    found = TRANSFORMATIONS[family](params_BP)
    x_BCHW = smooth_images(4, 64)
    sampler = Sampler("zeros")
    back = sampler(sampler(x_BCHW, found), undo(found))
    inside = (slice(None), slice(None), slice(24, 40), slice(24, 40))
    # The middle quarter stays in the frame under maps as near to the identity as these.
    torch.testing.assert_close(back[inside], x_BCHW[inside], atol=6e-3, rtol=0)
    assert (sampler(x_BCHW, found) - x_BCHW)[inside].abs().max() > 0.02
