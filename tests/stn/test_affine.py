"""The algebra of affine maps against float64 3x3 matrices."""

import math

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stn.affine import compose, from_parts, identity, inverse
from stn.maps import AffineMap

Matrix = npt.NDArray[np.float64]

part = st.tuples(st.floats(-math.pi, math.pi), st.floats(-1, 1), st.floats(-1, 1), st.floats(-2, 2), st.floats(-2, 2))
"""Angle, logarithm of the scale, shear, and the two shifts of an invertible map."""
parts = st.lists(part, min_size=1, max_size=5)


def theta_of(values: list[tuple[float, ...]], dtype: torch.dtype = torch.float64) -> Tensor:
    angle, log_scale, shear, x, y = torch.tensor(values, dtype=dtype).unbind(1)
    return from_parts(angle_rad_B=angle, log_scale_B=log_scale, shear_rad_B=shear, shift_B2=torch.stack([x, y], 1))


def matrices_of(values: list[tuple[float, ...]]) -> Matrix:
    """Maps of these parts, as products of the textbook's 3x3 matrices."""
    products = []
    for angle, log_scale, shear, x, y in values:
        cos, sin, scale = math.cos(angle), math.sin(angle), math.exp(log_scale)
        shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        grow = np.diag([scale, scale, 1])
        slant = np.array([[1, math.tan(shear), 0], [0, 1, 0], [0, 0, 1]])
        products.append(shift @ turn @ grow @ slant)
    return np.stack(products)


def square(theta_B23: Tensor) -> Matrix:
    """3x3 matrices, float64."""
    full = np.tile(np.eye(3), (len(theta_B23), 1, 1))
    full[:, :2] = theta_B23.numpy()
    return full


@given(parts)
def test_from_parts_is_shear_then_scale_then_rotate_then_shift(values):
    np.testing.assert_allclose(square(theta_of(values)), matrices_of(values), atol=1e-12)


def test_parts_that_are_left_out_do_nothing():
    angle_B = torch.tensor([0.3, -1.0], dtype=torch.float64)
    nothing_B = torch.zeros_like(angle_B)
    full_B23 = from_parts(
        angle_rad_B=angle_B,
        log_scale_B=nothing_B,
        shear_rad_B=nothing_B,
        shift_B2=torch.zeros(2, 2, dtype=torch.float64),
    )
    assert torch.equal(from_parts(angle_rad_B=angle_B), full_B23)


@given(st.lists(st.tuples(part, part), min_size=1, max_size=5))
def test_compose_is_the_matrix_product(pairs):
    outer, inner = ([pair[i] for pair in pairs] for i in (0, 1))
    composed = square(compose(theta_of(outer), theta_of(inner)))
    np.testing.assert_allclose(composed, matrices_of(outer) @ matrices_of(inner), atol=1e-10)


@given(part, part, part)
def test_compose_is_associative(first, second, third):
    a, b, c = (theta_of([values]) for values in (first, second, third))
    np.testing.assert_allclose(compose(compose(a, b), c), compose(a, compose(b, c)), atol=1e-9)


@given(parts)
def test_the_identity_changes_nothing(values):
    theta = theta_of(values)
    one = identity(len(values), dtype=torch.float64)
    assert torch.equal(compose(theta, one), theta)
    assert torch.equal(compose(one, theta), theta)


@given(parts)
def test_inverse_is_the_matrix_inverse(values):
    theta = theta_of(values)
    np.testing.assert_allclose(square(inverse(theta)), np.linalg.inv(matrices_of(values)), atol=1e-9)
    np.testing.assert_allclose(
        square(compose(theta, inverse(theta))), np.eye(3)[None].repeat(len(values), 0), atol=1e-9
    )
    np.testing.assert_allclose(inverse(inverse(theta)), theta, atol=1e-9)


@given(parts)
def test_float32_is_as_near_as_float32_can_be(values):
    theta = theta_of(values, torch.float32)
    assert theta.dtype == compose(theta, inverse(theta)).dtype == torch.float32
    np.testing.assert_allclose(square(compose(theta, inverse(theta))), square(identity(len(values))), atol=2e-4)


def test_a_singular_map_has_no_finite_inverse():
    assert not inverse(torch.zeros(1, 2, 3)).isfinite().all()


def test_a_composition_applies_the_inner_map_first():
    turn = theta_of([(math.pi / 2, 0, 0, 0, 0)])
    shift = theta_of([(0, 0, 0, 1, 0)])
    origin = torch.zeros(1, 1, 2, dtype=torch.float64)
    # Shifted to x = 1 and then turned, x goes to y; turned first, the origin stays and is shifted.
    np.testing.assert_allclose(AffineMap(compose(turn, shift)).apply(origin)[0, 0], [0, 1], atol=1e-15)
    np.testing.assert_allclose(AffineMap(compose(shift, turn)).apply(origin)[0, 0], [1, 0], atol=1e-15)


def test_identity_is_on_the_device_and_of_the_type_asked_for():
    ones = identity(3, device="meta", dtype=torch.float64)
    assert ones.shape == (3, 2, 3)
    assert ones.device.type == "meta"
    assert ones.dtype == torch.float64
    copies = identity(2)
    copies[0] = 7
    assert torch.equal(copies[1], torch.eye(2, 3))
