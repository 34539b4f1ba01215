"""Maps against products of 3x3 matrices in float64, and thin-plate splines against scipy's."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from stn.affine import identity
from stn.maps import MIN_DEPTH, AffineMap, MatrixMap, ProjectiveMap, circle, displacement, in_float32
from stn.sampler import base_grid
from stn.spline import GRID, NUM_CONTROL, SplineMap, control_points

Array = npt.NDArray[np.float64]

small = st.floats(-0.25, 0.25)


@st.composite
def matrices(draw: st.DrawFn, *, projective: bool | None = None) -> Array:
    """A 3x3 matrix near enough to the identity that it has an inverse and no horizon near the image."""
    is_projective = draw(st.booleans()) if projective is None else projective
    matrix_33 = np.eye(3)
    for row, column in np.ndindex(3 if is_projective else 2, 3):
        if (row, column) != (2, 2):
            matrix_33[row, column] += draw(small)
    return matrix_33


def map_of(matrix_33: Array, dtype: torch.dtype = torch.float64) -> MatrixMap:
    """The affine map if the last row is (0, 0, 1), else the projective one."""
    theta_133 = torch.from_numpy(matrix_33).to(dtype)[None]
    return AffineMap(theta_133[:, :2]) if (matrix_33[2] == [0, 0, 1]).all() else ProjectiveMap(theta_133)


def send(matrix_33: Array, points_N2: Array) -> Array:
    """Where a homography sends points, one by one."""
    sent = []
    for x, y in points_N2:
        u, v, w = matrix_33 @ np.array([x, y, 1.0])
        sent.append((u / w, v / w))
    return np.array(sent)


POINTS_N2 = np.random.default_rng(0).uniform(-1, 1, (9, 2))


@settings(max_examples=30)
@given(matrices())
def test_apply_is_the_homogeneous_product(matrix):
    points = torch.from_numpy(POINTS_N2)
    expected = send(matrix, POINTS_N2)
    np.testing.assert_allclose(map_of(matrix).apply(points)[0], expected, atol=1e-12)
    np.testing.assert_allclose(map_of(matrix).apply(points[None])[0], expected, atol=1e-12)
    np.testing.assert_allclose(map_of(matrix, torch.float32).apply(points.float())[0], expected, atol=2e-5)


@settings(max_examples=60)
@given(matrices(), matrices())
def test_compose_applies_the_inner_map_first(outer, inner):
    composed = map_of(outer).compose(map_of(inner))
    matrix = composed.projective().theta_B33[0].numpy()
    product = outer @ inner
    np.testing.assert_allclose(matrix, product, atol=1e-12)
    assert isinstance(composed, AffineMap) == ((outer[2] == inner[2]).all() and not outer[2, :2].any())
    in_turn = map_of(outer).apply(map_of(inner).apply(torch.from_numpy(POINTS_N2)))
    np.testing.assert_allclose(in_turn[0], send(product, POINTS_N2), atol=1e-10)


@settings(max_examples=60)
@given(matrices())
def test_inverse_is_the_matrix_inverse_up_to_its_factor(matrix):
    inverse = map_of(matrix).inverse()
    assert type(inverse) is type(map_of(matrix))
    expected = np.linalg.inv(matrix)
    np.testing.assert_allclose(inverse.projective().theta_B33[0], expected / expected[2, 2], atol=1e-10)
    back = inverse.apply(map_of(matrix).apply(torch.from_numpy(POINTS_N2)))
    np.testing.assert_allclose(back[0], POINTS_N2, atol=1e-10)


def test_a_batch_is_mapped_image_by_image():
    theta_B33 = torch.eye(3) + 0.2 * torch.randn(4, 3, 3)
    points_BN2 = torch.rand(4, 5, 2) - 0.5
    both: tuple[Callable[[Tensor], MatrixMap], ...] = (ProjectiveMap, lambda theta: AffineMap(theta[:, :2]))
    for make in both:
        found = make(theta_B33)
        assert len(found) == 4
        for i in range(4):
            one = make(theta_B33[i : i + 1])
            torch.testing.assert_close(found.apply(points_BN2)[i], one.apply(points_BN2[i])[0])
            torch.testing.assert_close(found.apply(points_BN2[0])[i], one.apply(points_BN2[0])[0])


def test_an_affine_map_is_the_same_as_a_projective_one():
    theta_B23 = identity(3) + 0.3 * torch.randn(3, 2, 3)
    points_N2 = base_grid(4, 4, torch.device("cpu"))
    found = AffineMap(theta_B23)
    torch.testing.assert_close(found.apply(points_N2), found.projective().apply(points_N2))
    assert found.projective().projective().theta_B33[:, 2].tolist() == [[0, 0, 1]] * 3


@pytest.mark.parametrize("kind", ["affine", "projective", "spline"])
def test_gradients_pass_gradcheck(kind):
    points = torch.from_numpy(POINTS_N2)
    rows = {"affine": 2, "projective": 3}.get(kind)

    def both(*inputs: Tensor) -> Tensor:
        """Through apply, compose and inverse."""
        if kind == "spline":
            return SplineMap(inputs[0]).apply(inputs[1])
        first, second = (AffineMap(t) if kind == "affine" else ProjectiveMap(t) for t in inputs)
        return first.compose(second.inverse()).apply(points)

    if rows is None:
        step = (0.1 * torch.randn(2, NUM_CONTROL, 2, dtype=torch.float64)).requires_grad_()
        inputs: tuple[Tensor, ...] = (step, points.expand(2, -1, -1).clone().requires_grad_())
    else:
        eye = torch.eye(3, dtype=torch.float64)[:rows]
        inputs = tuple((eye + 0.2 * torch.rand(2, rows, 3, dtype=torch.float64)).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(both, inputs)


@pytest.mark.parametrize("depth", [0.0, 1e-30, -1e-30, MIN_DEPTH / 2, -MIN_DEPTH / 2, MIN_DEPTH, -1e-2])
def test_points_on_the_horizon_are_far_away_and_have_finite_gradients(depth):
    """The horizon of this map is x = -1; the point lies `depth` in front of it."""
    theta_133 = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [1, 0, 1]]]).requires_grad_()
    point_12 = torch.tensor([[depth - 1.0, 0.3]]).requires_grad_()
    sent = ProjectiveMap(theta_133).apply(point_12)
    assert sent.isfinite().all()
    assert sent.abs().max() > 50
    sent.sum().backward()
    assert theta_133.grad is not None and theta_133.grad.isfinite().all()
    assert point_12.grad is not None and point_12.grad.isfinite().all()


def test_autocast_leaves_geometry_in_float32():
    theta_B33 = torch.eye(3) + 0.1 * torch.randn(3, 3, 3)
    other_B33 = torch.eye(3) + 0.1 * torch.randn(3, 3, 3)
    step_BK2 = 0.1 * torch.randn(3, NUM_CONTROL, 2)
    points_N2 = base_grid(8, 8, torch.device("cpu"))

    def all_of_it() -> list[Tensor]:
        affine, projective = AffineMap(theta_B33[:, :2]), ProjectiveMap(theta_B33)
        spline = SplineMap(step_BK2)
        found = [
            m.compose(other).inverse().apply(points_N2)
            for m in (affine, projective)
            for other in (AffineMap(other_B33[:, :2]), ProjectiveMap(other_B33))
        ]
        return [*found, spline.apply(points_N2), spline.apply_inverse(points_N2)]

    plain = all_of_it()
    with torch.autocast("cpu", torch.bfloat16):
        assert (theta_B33 @ other_B33).dtype == torch.bfloat16  # it would have mattered
        with in_float32(theta_B33):
            assert (theta_B33 @ other_B33).dtype == torch.float32
        for before, within in zip(plain, all_of_it(), strict=True):
            assert within.dtype == torch.float32
            assert torch.equal(before, within)


def test_the_circle_touches_the_edges_and_is_even():
    points = circle(torch.device("cpu")).double().numpy()
    assert points.shape == (8, 2)
    np.testing.assert_allclose(np.hypot(*points.T), 1, atol=1e-6)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-6)
    angles = np.unwrap(np.arctan2(points[:, 1], points[:, 0]))
    np.testing.assert_allclose(np.diff(angles), math.pi / 4, atol=1e-6)


def test_displacement_is_the_mean_squared_distance():
    a, b = (np.random.default_rng(seed).normal(size=(2, 2, 3)) for seed in (1, 2))
    points = torch.from_numpy(POINTS_N2)
    expected = [np.mean([np.sum(((a[i] - b[i]) @ [x, y, 1]) ** 2) for x, y in POINTS_N2]) for i in range(2)]
    found = displacement(AffineMap(torch.from_numpy(a)), AffineMap(torch.from_numpy(b)), points)
    np.testing.assert_allclose(found, expected)


def test_control_points_are_a_regular_grid_row_by_row():
    side = [-1, -1 / 3, 1 / 3, 1]
    expected = [(x, y) for y in side for x in side]
    assert GRID * GRID == NUM_CONTROL == len(expected)
    np.testing.assert_allclose(control_points(), expected, atol=1e-7)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_control_points_move_by_their_steps(dtype, atol):
    step_BK2 = 0.3 * torch.randn(3, NUM_CONTROL, 2, dtype=dtype)
    moved = SplineMap(step_BK2).apply(control_points(dtype=dtype))
    torch.testing.assert_close(moved, control_points(dtype=dtype) + step_BK2, atol=atol, rtol=0)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_points_between_move_as_scipy_says(dtype, atol):
    control = control_points(dtype=torch.float64).numpy()
    points = np.random.default_rng(1).uniform(-1.3, 1.3, (50, 2))
    step_BK2 = np.random.default_rng(2).normal(0, 0.3, (2, NUM_CONTROL, 2))
    expected = [
        points + RBFInterpolator(control, step, kernel="thin_plate_spline", degree=1)(points) for step in step_BK2
    ]
    moved = SplineMap(torch.from_numpy(step_BK2).to(dtype)).apply(torch.from_numpy(points).to(dtype))
    np.testing.assert_allclose(moved, np.stack(expected), atol=atol)


def test_affine_moves_make_an_affine_map():
    theta_B23 = torch.eye(2, 3).double() + 0.4 * torch.randn(3, 2, 3).double()
    control = control_points(dtype=torch.float64)
    step_BK2 = AffineMap(theta_B23).apply(control) - control
    points = 3 * torch.from_numpy(POINTS_N2)
    torch.testing.assert_close(SplineMap(step_BK2).apply(points), AffineMap(theta_B23).apply(points))


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_apply_inverse_inverts_moves_that_fold_nothing(seed):
    generator = torch.Generator().manual_seed(seed)
    # Steps under a sixth of the distance between control points cannot swap them.
    step_BK2 = 0.1 * (2 * torch.rand(2, NUM_CONTROL, 2, generator=generator, dtype=torch.float64) - 1)
    bend, points = SplineMap(step_BK2), torch.from_numpy(POINTS_N2)
    torch.testing.assert_close(bend.apply(bend.apply_inverse(points)), points.expand(2, -1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(bend.apply_inverse(bend.apply(points)), points.expand(2, -1, 2), atol=1e-5, rtol=0)


def test_no_move_is_the_identity_to_the_bit():
    grid_N2 = base_grid(32, 32, torch.device("cpu"))
    assert torch.equal(SplineMap(torch.zeros(2, NUM_CONTROL, 2)).apply(grid_N2), grid_N2.expand(2, -1, 2))


def test_gradients_at_a_control_point_are_finite():
    """There the logarithm of the distance is not."""
    points = control_points().requires_grad_()
    step_BK2 = torch.randn(1, NUM_CONTROL, 2, requires_grad=True)
    SplineMap(step_BK2).apply(points).square().sum().backward()
    assert points.grad is not None and points.grad.isfinite().all()
    assert step_BK2.grad is not None and step_BK2.grad.isfinite().all()
