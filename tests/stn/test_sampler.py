"""The sampler against a loop over pixels in float64 that is written from the definition."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from stn import TRANSFORMATIONS, Sampler, base_grid, warp
from stn.affine import from_parts, identity, inverse
from stn.linearised import RINGS_PX, offsets_px
from stn.maps import AffineMap, ProjectiveMap
from stn.sampler import Gradient, Padding

Array = npt.NDArray[np.float64]
PADDINGS: tuple[Padding, ...] = ("zeros", "border", "reflection")
GRADIENTS: tuple[Gradient, ...] = ("bilinear", "linearised")
every_padding = pytest.mark.parametrize("padding", PADDINGS)


def value_at(image_CHW: Array, column: float, row: float, padding: Padding) -> Array:
    """The image, interpolated bilinearly, at a place in pixels; 0 is the centre of the first."""
    channels, height, width = image_CHW.shape

    def reflected(position: float, size: int) -> float:
        """Folded at the image's edges, which lie half a pixel outside its outermost centres."""
        position = (position + 0.5) % (2 * size)
        return min(position, 2 * size - position) - 0.5

    if padding == "reflection":
        column, row = reflected(column, width), reflected(row, height)
    if padding != "zeros":
        column, row = min(max(column, 0.0), width - 1), min(max(row, 0.0), height - 1)
    left, top = math.floor(column), math.floor(row)
    value = np.zeros(channels)
    for corner_row, weight_row in ((top, top + 1 - row), (top + 1, row - top)):
        for corner_column, weight_column in ((left, left + 1 - column), (left + 1, column - left)):
            if 0 <= corner_row < height and 0 <= corner_column < width:
                value += weight_row * weight_column * image_CHW[:, corner_row, corner_column]
    return value


def place_of(theta_23: Array, i: int, j: int, size_px: tuple[int, int], image_px: tuple[int, ...]) -> Array:
    """Where the output's pixel (i, j) looks, as column and row in pixels; edges of the images are at -1 and 1."""
    rows, columns = size_px
    x, y = theta_23 @ np.array([(2 * j + 1) / columns - 1, (2 * i + 1) / rows - 1, 1.0])
    return np.array([((x + 1) * image_px[1] - 1) / 2, ((y + 1) * image_px[0] - 1) / 2])


def sample_by_loop(image_CHW: Array, theta_23: Array, size_px: tuple[int, int], padding: Padding) -> Array:
    result = np.zeros((len(image_CHW), *size_px))
    for i, j in np.ndindex(size_px):
        column, row = place_of(theta_23, i, j, size_px, image_CHW.shape[1:])
        result[:, i, j] = value_at(image_CHW, column, row, padding)
    return result


def random_case(num: int, height: int, width: int, spread: float = 0.6) -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    return generator.random((num, 2, height, width)), np.eye(2, 3) + generator.normal(0, spread, (num, 2, 3))


def as_map(theta_B23: Array) -> AffineMap:
    return AffineMap(torch.from_numpy(theta_B23).float())


@every_padding
def test_identity_returns_32_pixel_images_bit_for_bit(padding):
    x_BCHW = torch.rand(5, 3, 32, 32)
    assert torch.equal(Sampler(padding)(x_BCHW, AffineMap(identity(5))), x_BCHW)


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (33, 33), (31, 47), (224, 96)])
def test_identity_returns_images_of_other_sizes(size):
    x_BCHW = torch.rand(2, 3, *size)
    torch.testing.assert_close(warp(x_BCHW, identity(2)), x_BCHW, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [28, 33, 96])
def test_identity_is_near_to_1e_5_inside_the_frame(size):
    x_BCHW = torch.rand(2, 3, size, size)
    sampled = Sampler("border")(x_BCHW, AffineMap(identity(2)))
    torch.testing.assert_close(sampled, x_BCHW, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("right_px", "down_px"), [(3, 0), (0, 3), (-5, 2), (-1, -7), (31, -31), (32, 0)])
def test_whole_pixel_shifts_are_exact(right_px, down_px):
    """A map from output to input that adds to x moves the picture to the left: hence the signs."""
    x_BCHW = torch.rand(2, 3, 32, 32)
    theta_out_to_in_B23 = identity(2)
    theta_out_to_in_B23[:, 0, 2] = -2 * right_px / 32
    theta_out_to_in_B23[:, 1, 2] = -2 * down_px / 32
    expected = torch.zeros_like(x_BCHW)
    to_h = slice(max(0, down_px), 32 + min(0, down_px))
    to_w = slice(max(0, right_px), 32 + min(0, right_px))
    from_h = slice(max(0, -down_px), 32 + min(0, -down_px))
    from_w = slice(max(0, -right_px), 32 + min(0, -right_px))
    expected[:, :, to_h, to_w] = x_BCHW[:, :, from_h, from_w]
    assert torch.equal(warp(x_BCHW, theta_out_to_in_B23), expected)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(quarters):
    """np.rot90 turns anticlockwise on the screen; a positive angle in the map from output to input turns the
    coordinates clockwise, so the picture anticlockwise."""
    x_BCHW = torch.rand(2, 3, 32, 32)
    linear_22 = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).matrix_power(quarters)
    theta_out_to_in_B23 = torch.cat([linear_22, torch.zeros(2, 1)], 1).expand(2, 2, 3)
    expected = torch.from_numpy(np.rot90(x_BCHW.numpy(), quarters, axes=(2, 3)).copy())
    assert torch.equal(warp(x_BCHW, theta_out_to_in_B23), expected)
    by_angle = from_parts(angle_rad_B=torch.full((2,), quarters * math.pi / 2))
    torch.testing.assert_close(by_angle, theta_out_to_in_B23, atol=1e-6, rtol=0)


def test_the_inverse_map_turns_the_picture_the_way_the_map_turns_coordinates():
    """A dot to the right of the centre, turned by +90 deg (x towards y, clockwise), is below the centre."""
    x_BCHW = torch.zeros(1, 1, 32, 32)
    x_BCHW[0, 0, 15:17, 28] = 1
    theta_in_to_out_B23 = from_parts(angle_rad_B=torch.tensor([math.pi / 2]))
    turned_HW = warp(x_BCHW, inverse(theta_in_to_out_B23))[0, 0]
    assert turned_HW[28, 15:17].min() > 0.99
    assert turned_HW.sum().item() == pytest.approx(2, abs=1e-3)


def test_a_scale_of_2_in_the_map_shrinks_the_picture():
    theta_out_to_in_B23 = from_parts(angle_rad_B=torch.zeros(1), log_scale_B=torch.tensor([math.log(2)]))
    seen_HW = warp(torch.ones(1, 1, 32, 32), theta_out_to_in_B23)[0, 0]
    assert torch.equal(seen_HW[8:24, 8:24], torch.ones(16, 16))
    assert seen_HW.sum() == 16 * 16


def test_warp_takes_affine_and_projective_maps_and_points():
    x_BCHW = torch.rand(2, 3, 6, 8)
    theta_B23 = identity(2) + 0.3 * torch.randn(2, 2, 3)
    theta_B33 = torch.cat([theta_B23, torch.tensor([0.1, -0.2, 1]).expand(2, 1, 3)], 1)
    grid_N2 = base_grid(6, 8, torch.device("cpu"))
    for theta, found in ((theta_B23, AffineMap(theta_B23)), (theta_B33, ProjectiveMap(theta_B33))):
        expected = Sampler()(x_BCHW, found)
        assert torch.equal(warp(x_BCHW, theta), expected)
        assert torch.equal(warp(x_BCHW, found.apply(grid_N2).view(2, 6, 8, 2)), expected)


@every_padding
@pytest.mark.parametrize("size_px", [None, (4, 9)])
@pytest.mark.parametrize("gradient", ["bilinear", "linearised"])
def test_values_are_those_of_the_loop(padding, size_px, gradient):
    image_BCHW, theta_B23 = random_case(8, 7, 10)
    sampler = Sampler(padding, gradient=gradient)
    found = AffineMap(torch.from_numpy(theta_B23).float().requires_grad_(gradient == "linearised"))
    sampled = sampler(torch.from_numpy(image_BCHW).float(), found, size_px).detach()
    expected = [
        sample_by_loop(image, theta, size_px or (7, 10), padding)
        for image, theta in zip(image_BCHW, theta_B23, strict=True)
    ]
    np.testing.assert_allclose(sampled, np.stack(expected), atol=2e-5)


@every_padding
@pytest.mark.parametrize("size_px", [None, (3, 5)])
def test_with_anti_aliasing_they_are_means_of_four(padding, size_px):
    image_BCHW, theta_B23 = random_case(4, 7, 6)
    sampled = Sampler(padding, anti_alias=True)(torch.from_numpy(image_BCHW).float(), as_map(theta_B23), size_px)
    rows, columns = size_px or (7, 6)
    for image, theta, found in zip(image_BCHW, theta_B23, sampled, strict=True):
        fine = sample_by_loop(image, theta, (2 * rows, 2 * columns), padding)
        blocks = [fine[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        np.testing.assert_allclose(found, sum(blocks) / 4, atol=2e-5)


def test_anti_aliasing_makes_a_fine_pattern_grey_where_it_shrinks():
    """Squares of one pixel, shrunk to a half: bilinear points may all fall on squares of one colour."""
    board_HW = torch.from_numpy(np.indices((32, 32)).sum(0) % 2).float()
    shrink = from_parts(
        angle_rad_B=torch.zeros(1), log_scale_B=torch.tensor([math.log(2)]), shift_B2=torch.full((1, 2), 1 / 32)
    )
    inside = (slice(9, 23), slice(9, 23))  # the picture is 16 px wide now
    seen = Sampler()(board_HW[None, None], AffineMap(shrink))[0, 0][inside]
    smooth = Sampler(anti_alias=True)(board_HW[None, None], AffineMap(shrink))[0, 0][inside]
    assert (seen - 0.5).abs().min() > 0.49
    torch.testing.assert_close(smooth, torch.full_like(smooth, 0.5), atol=1e-5, rtol=0)


def test_a_batch_is_warped_image_by_image():
    x_BCHW = torch.rand(6, 3, 17, 17)
    theta_B23 = identity(6) + 0.3 * torch.randn(6, 2, 3)
    alone = torch.cat([warp(x_BCHW[i : i + 1], theta_B23[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(warp(x_BCHW, theta_B23), alone, atol=1e-5, rtol=0)


SAMPLERS = [
    Sampler(padding, anti_alias, gradient)
    for padding, anti_alias, gradient in itertools.product(PADDINGS, (False, True), GRADIENTS)
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("sampler", SAMPLERS[:4])
def test_pixels_keep_their_type(dtype, sampler):
    theta = identity(2).requires_grad_()
    assert sampler(torch.rand(2, 3, 8, 8).to(dtype), AffineMap(theta)).dtype == dtype


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size_px", [None, (5, 6)])
@pytest.mark.parametrize("sampler", SAMPLERS[:4])
def test_the_memory_format_is_the_input_s(memory_format, size_px, sampler):
    x_BCHW = torch.rand(2, 3, 8, 8).contiguous(memory_format=memory_format)
    sampled = sampler(x_BCHW, AffineMap(identity(2).requires_grad_()), size_px)
    assert sampled.shape == (2, 3, *(size_px or (8, 8)))
    assert sampled.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("family", list(TRANSFORMATIONS))
@pytest.mark.parametrize("sampler", [SAMPLERS[0], SAMPLERS[3]])
def test_autocast_leaves_geometry_in_float32(family, sampler):
    """bf16 has 8 bits for a coordinate: half a pixel on 256 of them."""
    x_BCHW = torch.rand(2, 3, 32, 32)
    transformation = TRANSFORMATIONS[family]
    params_BP = (0.1 * torch.randn(2, transformation.num_params)).requires_grad_()
    plain = sampler(x_BCHW, transformation(params_BP))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = sampler(x_BCHW, transformation(params_BP))
    assert within.dtype == torch.float32
    assert torch.equal(within, plain)
    # The numbers of a network in bf16 are all that is rounded.
    rounded = params_BP.bfloat16()
    assert torch.equal(sampler(x_BCHW, transformation(rounded)), sampler(x_BCHW, transformation(rounded.float())))


def test_gradients_are_the_slopes_of_the_loop():
    """Finite differences of the float64 loop; the maps are chosen so that no sample crosses a pixel's edge."""
    generator = np.random.default_rng(3)
    image_CHW = generator.random((2, 6, 6))
    weight_CHW = generator.normal(size=(2, 6, 6))
    theta_23 = np.array([[0.613, 0.171, 0.0537], [-0.0933, 0.711, -0.0317]])
    step = 1e-7

    def loss(image: Array, theta: Array) -> float:
        return float((sample_by_loop(image, theta, (6, 6), "zeros") * weight_CHW).sum())

    def slopes(function: Any, at: Array) -> Array:
        result = np.zeros_like(at)
        for place in np.ndindex(at.shape):
            nudge = np.zeros_like(at)
            nudge[place] = step
            result[place] = (function(at + nudge) - function(at - nudge)) / (2 * step)
        return result

    x_1CHW = torch.from_numpy(image_CHW[None]).float().requires_grad_()
    theta_123 = torch.from_numpy(theta_23[None]).float().requires_grad_()
    (warp(x_1CHW, theta_123) * torch.from_numpy(weight_CHW)).sum().backward()
    assert x_1CHW.grad is not None and theta_123.grad is not None
    np.testing.assert_allclose(theta_123.grad[0], slopes(lambda t: loss(image_CHW, t), theta_23), atol=2e-4)
    np.testing.assert_allclose(x_1CHW.grad[0], slopes(lambda i: loss(i, theta_23), image_CHW), atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_linearised_ones_change_neither_values_nor_the_image_s(sampler):
    x_BCHW, weight = torch.rand(3, 2, 9, 11), torch.randn(3, 2, 9, 11)
    theta_B23 = identity(3) + 0.3 * torch.randn(3, 2, 3)
    results = []
    for gradient in GRADIENTS:
        x, theta = x_BCHW.clone().requires_grad_(), theta_B23.clone().requires_grad_()
        sampled = replace(sampler, gradient=gradient)(x, AffineMap(theta))
        (sampled * weight).sum().backward()
        assert x.grad is not None and theta.grad is not None
        results.append((sampled, x.grad, theta.grad))
    (plain, x_grad, theta_grad), (other, other_x_grad, other_theta_grad) = results
    assert torch.equal(plain, other)
    torch.testing.assert_close(x_grad, other_x_grad)
    assert (theta_grad - other_theta_grad).abs().max() > 0.1


@every_padding
def test_linearised_ones_are_slopes_of_planes_fitted_to_neighbours(padding):
    image_BCHW, theta_B23 = random_case(2, 7, 10, spread=0.2)
    size_px = (4, 3)
    weight_BCHW = np.random.default_rng(5).normal(size=(2, 2, *size_px))
    expected = np.zeros((2, 2, 3))
    near, far = 1.5, 3.0
    ring = [near * np.array([math.cos(a), math.sin(a)]) for a in np.arange(4) * math.pi / 2]
    ring += [far * np.array([math.cos(a), math.sin(a)]) for a in (np.arange(4) + 0.5) * math.pi / 2]
    assert (near, far) == RINGS_PX
    assert {(round(x, 9) + 0.0, round(y, 9) + 0.0) for x, y in offsets_px()} == {
        (round(x, 9) + 0.0, round(y, 9) + 0.0) for x, y in ring
    }
    for b, i, j in np.ndindex(2, *size_px):
        place = place_of(theta_B23[b], i, j, size_px, (7, 10))
        values_KC = [value_at(image_BCHW[b], place[0] + x, place[1] + y, padding) for x, y in ring]
        basis_K3 = np.array([[*step, 1.0] for step in ring])
        slope_per_px_2C = np.linalg.lstsq(basis_K3, np.array(values_KC), rcond=None)[0][:2]
        # A normalised coordinate of 1 is half the image's side.
        slope_2 = slope_per_px_2C @ weight_BCHW[b, :, i, j] * np.array([10 / 2, 7 / 2])
        expected[b] += np.outer(slope_2, [(2 * j + 1) / 3 - 1, (2 * i + 1) / 4 - 1, 1.0])
    theta = torch.from_numpy(theta_B23).float().requires_grad_()
    x_BCHW = torch.from_numpy(image_BCHW).float()
    sampled = Sampler(padding, gradient="linearised")(x_BCHW, AffineMap(theta), size_px)
    (sampled * torch.from_numpy(weight_BCHW)).sum().backward()
    assert theta.grad is not None
    np.testing.assert_allclose(theta.grad, expected, atol=2e-4)


def test_linearised_ones_see_further_than_a_pixel():
    """Two pixels beside an edge the image is flat, and bilinear weights feel nothing."""
    x_1CHW = torch.zeros(1, 1, 16, 16)
    x_1CHW[..., 10:] = 1

    def slope(sampler: Sampler) -> float:
        theta = torch.zeros(1, 2, 3)
        theta[0, 0, 2] = (2 * 8 + 1) / 16 - 1  # the centre of pixel 8
        theta.requires_grad_()
        sampler(x_1CHW, AffineMap(theta), (1, 1)).sum().backward()
        assert theta.grad is not None
        return theta.grad[0, 0, 2].item()

    assert slope(Sampler()) == 0
    assert slope(Sampler(gradient="linearised")) > 0.1


def test_a_first_call_in_inference_mode_does_not_spoil_training():
    base_grid.cache_clear()
    with torch.inference_mode():
        warp(torch.rand(1, 3, 8, 8), identity(1))
    theta_B23 = identity(1).requires_grad_()
    warp(torch.rand(1, 3, 8, 8), theta_B23).sum().backward()
    assert theta_B23.grad is not None and theta_B23.grad.isfinite().all()


def test_the_base_grid_holds_the_centres_of_pixels():
    grid: Tensor = base_grid(2, 4, torch.device("cpu"))
    x, y = (-0.75, -0.25, 0.25, 0.75), (-0.5, 0.5)
    assert grid.tolist() == [[column, row] for row in y for column in x]
    assert base_grid(2, 4, torch.device("cpu")) is grid
