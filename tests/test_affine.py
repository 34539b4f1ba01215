"""Warp algebra against float64 matrices, and the sampler against a loop that is written from the definition."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stn import AffineTransformer, LeNetLocalisation, base_grid, warp
from stn.affine import apply, compose, from_parts, identity, inverse
from stn.sampler import Padding

Matrix = npt.NDArray[np.float64]
PADDINGS: tuple[Padding, ...] = ("zeros", "border", "reflection")

part = st.tuples(st.floats(-math.pi, math.pi), st.floats(-1, 1), st.floats(-1, 1), st.floats(-2, 2), st.floats(-2, 2))
"""Angle, logarithm of the scale, shear, and the two shifts of an invertible map."""
parts = st.lists(part, min_size=1, max_size=5)


def theta_of(values: list[tuple[float, ...]], dtype: torch.dtype = torch.float64) -> Tensor:
    angle, log_scale, shear, x, y = torch.tensor(values, dtype=dtype).unbind(1)
    return from_parts(angle_rad_B=angle, log_scale_B=log_scale, shear_rad_B=shear, shift_B2=torch.stack([x, y], 1))


def matrices_of(values: list[tuple[float, ...]]) -> Matrix:
    """The same maps as products of the textbook's 3x3 matrices."""
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


def sample_by_loop(image_CHW: Matrix, theta_23: Matrix, size_px: tuple[int, int], padding: Padding) -> Matrix:
    """One image resampled pixel by pixel in float64, edges of the image at -1 and 1."""
    channels, height, width = image_CHW.shape
    rows, columns = size_px

    def reflected(position: float, size: int) -> float:
        """Folded at the image's edges, which lie half a pixel outside its outermost centres."""
        position = (position + 0.5) % (2 * size)
        return min(position, 2 * size - position) - 0.5

    def value_at(row: int, column: int) -> Any:
        if 0 <= row < height and 0 <= column < width:
            return image_CHW[:, row, column]
        return np.zeros(channels)

    result = np.zeros((channels, rows, columns))
    for i in range(rows):
        for j in range(columns):
            x, y = theta_23 @ np.array([(2 * j + 1) / columns - 1, (2 * i + 1) / rows - 1, 1.0])
            column, row = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
            if padding == "reflection":
                column, row = reflected(column, width), reflected(row, height)
            if padding != "zeros":
                column, row = min(max(column, 0.0), width - 1), min(max(row, 0.0), height - 1)
            left, top = math.floor(column), math.floor(row)
            for corner_row, weight_row in ((top, top + 1 - row), (top + 1, row - top)):
                for corner_column, weight_column in ((left, left + 1 - column), (left + 1, column - left)):
                    result[:, i, j] += weight_row * weight_column * value_at(corner_row, corner_column)
    return result


@pytest.fixture(autouse=True)
def same_numbers_in_one_thread() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


class TestAlgebra:
    @given(parts)
    def test_from_parts_is_shear_then_scale_then_rotate_then_shift(self, values):
        np.testing.assert_allclose(square(theta_of(values)), matrices_of(values), atol=1e-12)

    def test_parts_that_are_left_out_do_nothing(self):
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
    def test_compose_is_the_matrix_product(self, pairs):
        outer, inner = ([pair[i] for pair in pairs] for i in (0, 1))
        composed = square(compose(theta_of(outer), theta_of(inner)))
        np.testing.assert_allclose(composed, matrices_of(outer) @ matrices_of(inner), atol=1e-10)

    @given(part, part, part)
    def test_compose_is_associative(self, first, second, third):
        a, b, c = (theta_of([values]) for values in (first, second, third))
        np.testing.assert_allclose(compose(compose(a, b), c), compose(a, compose(b, c)), atol=1e-9)

    @given(parts)
    def test_the_identity_changes_nothing(self, values):
        theta = theta_of(values)
        one = identity(len(values), dtype=torch.float64)
        assert torch.equal(compose(theta, one), theta)
        assert torch.equal(compose(one, theta), theta)

    @given(parts)
    def test_inverse_is_the_matrix_inverse(self, values):
        theta = theta_of(values)
        np.testing.assert_allclose(square(inverse(theta)), np.linalg.inv(matrices_of(values)), atol=1e-9)
        np.testing.assert_allclose(
            square(compose(theta, inverse(theta))), np.eye(3)[None].repeat(len(values), 0), atol=1e-9
        )
        np.testing.assert_allclose(inverse(inverse(theta)), theta, atol=1e-9)

    @given(parts)
    def test_float32_is_as_near_as_float32_can_be(self, values):
        theta = theta_of(values, torch.float32)
        assert theta.dtype == compose(theta, inverse(theta)).dtype == torch.float32
        np.testing.assert_allclose(square(compose(theta, inverse(theta))), square(identity(len(values))), atol=2e-4)

    def test_a_singular_map_has_no_finite_inverse(self):
        assert not inverse(torch.zeros(1, 2, 3)).isfinite().all()

    @given(parts, st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=4))
    def test_apply_is_the_product_with_homogeneous_points(self, values, points):
        points_N2 = np.array(points)
        applied = apply(theta_of(values), torch.from_numpy(points_N2).expand(len(values), -1, -1))
        homogeneous_3N = np.concatenate([points_N2.T, np.ones((1, len(points)))])
        expected = (matrices_of(values) @ homogeneous_3N)[:, :2].transpose(0, 2, 1)
        np.testing.assert_allclose(applied, expected, atol=1e-10)

    def test_apply_of_a_composition_applies_the_inner_map_first(self):
        turn = theta_of([(math.pi / 2, 0, 0, 0, 0)])
        shift = theta_of([(0, 0, 0, 1, 0)])
        origin = torch.zeros(1, 1, 2, dtype=torch.float64)
        # Shifted to x = 1 and then turned, x goes to y; turned first, the origin stays and is shifted.
        np.testing.assert_allclose(apply(compose(turn, shift), origin)[0, 0], [0, 1], atol=1e-15)
        np.testing.assert_allclose(apply(compose(shift, turn), origin)[0, 0], [1, 0], atol=1e-15)

    def test_identity_is_on_the_device_and_of_the_type_asked_for(self):
        ones = identity(3, device="meta", dtype=torch.float64)
        assert ones.shape == (3, 2, 3)
        assert ones.device.type == "meta"
        assert ones.dtype == torch.float64
        copies = identity(2)
        copies[0] = 7
        assert torch.equal(copies[1], torch.eye(2, 3))


class TestWarp:
    @pytest.mark.parametrize("padding", PADDINGS)
    def test_the_identity_returns_32_pixel_images_bit_for_bit(self, padding):
        x_BCHW = torch.rand(5, 3, 32, 32)
        assert torch.equal(warp(x_BCHW, identity(5), padding=padding), x_BCHW)

    @pytest.mark.parametrize("size", [(1, 1), (28, 28), (33, 33), (31, 47), (224, 96)])
    def test_the_identity_returns_images_of_other_sizes(self, size):
        x_BCHW = torch.rand(2, 3, *size)
        torch.testing.assert_close(warp(x_BCHW, identity(2)), x_BCHW, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("size", [28, 33, 96])
    def test_the_identity_is_near_to_1e_5_inside_the_frame(self, size):
        x_BCHW = torch.rand(2, 3, size, size)
        torch.testing.assert_close(warp(x_BCHW, identity(2), padding="border"), x_BCHW, atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("right_px", "down_px"), [(3, 0), (0, 3), (-5, 2), (-1, -7), (31, -31), (32, 0)])
    def test_whole_pixel_shifts_are_exact(self, right_px, down_px):
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
    def test_quarter_turns_are_exact(self, quarters):
        """np.rot90 turns anticlockwise on the screen; a positive angle in the map from output to input turns the
        coordinates clockwise, so the picture anticlockwise."""
        x_BCHW = torch.rand(2, 3, 32, 32)
        linear_22 = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).matrix_power(quarters)
        theta_out_to_in_B23 = torch.cat([linear_22, torch.zeros(2, 1)], 1).expand(2, 2, 3)
        expected = torch.from_numpy(np.rot90(x_BCHW.numpy(), quarters, axes=(2, 3)).copy())
        assert torch.equal(warp(x_BCHW, theta_out_to_in_B23), expected)
        by_angle = from_parts(angle_rad_B=torch.full((2,), quarters * math.pi / 2))
        torch.testing.assert_close(by_angle, theta_out_to_in_B23, atol=1e-6, rtol=0)

    def test_the_inverse_map_turns_the_picture_the_way_the_map_turns_coordinates(self):
        """A dot to the right of the centre, turned by +90 deg (x towards y, clockwise), is below the centre."""
        x_BCHW = torch.zeros(1, 1, 32, 32)
        x_BCHW[0, 0, 15:17, 28] = 1
        theta_in_to_out_B23 = from_parts(angle_rad_B=torch.tensor([math.pi / 2]))
        turned_HW = warp(x_BCHW, inverse(theta_in_to_out_B23))[0, 0]
        assert turned_HW[28, 15:17].min() > 0.99
        assert turned_HW.sum().item() == pytest.approx(2, abs=1e-3)

    def test_a_scale_of_2_in_the_map_shrinks_the_picture(self):
        theta_out_to_in_B23 = from_parts(angle_rad_B=torch.zeros(1), log_scale_B=torch.tensor([math.log(2)]))
        seen_HW = warp(torch.ones(1, 1, 32, 32), theta_out_to_in_B23)[0, 0]
        assert torch.equal(seen_HW[8:24, 8:24], torch.ones(16, 16))
        assert seen_HW.sum() == 16 * 16

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("size_px", [None, (4, 9)])
    def test_values_are_those_of_the_loop(self, padding, size_px):
        generator = np.random.default_rng(0)
        image_BCHW = generator.random((12, 2, 7, 10))
        theta_B23 = np.eye(2, 3) + generator.normal(0, 0.6, (12, 2, 3))
        sampled = warp(
            torch.from_numpy(image_BCHW).float(), torch.from_numpy(theta_B23), padding=padding, size_px=size_px
        )
        expected = np.stack(
            [
                sample_by_loop(image, theta, size_px or (7, 10), padding)
                for image, theta in zip(image_BCHW, theta_B23, strict=True)
            ]
        )
        assert sampled.shape == expected.shape
        np.testing.assert_allclose(sampled, expected, atol=2e-5)

    def test_a_batch_is_warped_image_by_image(self):
        x_BCHW = torch.rand(6, 3, 17, 17)
        theta_B23 = identity(6) + 0.3 * torch.randn(6, 2, 3)
        alone = torch.cat([warp(x_BCHW[i : i + 1], theta_B23[i : i + 1]) for i in range(6)])
        torch.testing.assert_close(warp(x_BCHW, theta_B23), alone, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_pixels_keep_their_type(self, dtype):
        assert warp(torch.rand(2, 3, 8, 8).to(dtype), identity(2)).dtype == dtype

    @pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
    @pytest.mark.parametrize("size_px", [None, (5, 6)])
    def test_the_memory_format_is_the_input_s(self, memory_format, size_px):
        x_BCHW = torch.rand(2, 3, 8, 8).contiguous(memory_format=memory_format)
        assert warp(x_BCHW, identity(2), size_px=size_px).is_contiguous(memory_format=memory_format)

    def test_autocast_leaves_geometry_in_float32(self):
        """bf16 has 8 bits for a coordinate: half a pixel on 256 of them."""
        x_BCHW = torch.rand(2, 3, 32, 32)
        theta_B23 = identity(2) + 0.1 * torch.randn(2, 2, 3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(warp(x_BCHW, theta_B23), warp(x_BCHW.clone(), theta_B23))
            under_autocast = warp(x_BCHW, theta_B23)
            transformer = AffineTransformer(LeNetLocalisation(3, 6))
            assert transformer.theta(x_BCHW).dtype == torch.float32
            assert torch.equal(transformer(x_BCHW), x_BCHW)
        assert torch.equal(under_autocast, warp(x_BCHW, theta_B23))

    def test_gradients_are_the_slopes_of_the_loop(self):
        """Finite differences of the float64 loop; the maps are chosen so that no sample crosses a pixel's edge."""
        generator = np.random.default_rng(3)
        image_CHW = generator.random((2, 6, 6))
        weight_CHW = generator.normal(size=(2, 6, 6))
        theta_23 = np.array([[0.613, 0.171, 0.0537], [-0.0933, 0.711, -0.0317]])
        step = 1e-7

        def loss(image: Matrix, theta: Matrix) -> float:
            return float((sample_by_loop(image, theta, (6, 6), "zeros") * weight_CHW).sum())

        def slopes(function: Any, at: Matrix) -> Matrix:
            result = np.zeros_like(at)
            for place in np.ndindex(at.shape):
                nudge = np.zeros_like(at)
                nudge[place] = step
                result[place] = (function(at + nudge) - function(at - nudge)) / (2 * step)
            return result

        x_1CHW = torch.from_numpy(image_CHW[None]).float().requires_grad_()
        theta_123 = torch.from_numpy(theta_23[None]).float().requires_grad_()
        (warp(x_1CHW, theta_123) * torch.from_numpy(weight_CHW)).sum().backward()
        assert x_1CHW.grad is not None
        assert theta_123.grad is not None
        np.testing.assert_allclose(theta_123.grad[0], slopes(lambda t: loss(image_CHW, t), theta_23), atol=2e-4)
        np.testing.assert_allclose(x_1CHW.grad[0], slopes(lambda i: loss(i, theta_23), image_CHW), atol=1e-4)

    def test_a_first_call_in_inference_mode_does_not_spoil_training(self):
        base_grid.cache_clear()
        with torch.inference_mode():
            warp(torch.rand(1, 3, 8, 8), identity(1))
        theta_B23 = identity(1).requires_grad_()
        warp(torch.rand(1, 3, 8, 8), theta_B23).sum().backward()
        assert theta_B23.grad is not None
        assert theta_B23.grad.isfinite().all()

    def test_the_base_grid_holds_the_centres_of_pixels(self):
        grid = base_grid(2, 4, torch.device("cpu"))
        x, y = (-0.75, -0.25, 0.25, 0.75), (-0.5, 0.5)
        assert grid.tolist() == [[column, row, 1] for row in y for column in x]
        assert base_grid(2, 4, torch.device("cpu")) is grid


class TestAffineTransformer:
    def test_it_starts_as_the_identity_and_its_localisation_net_learns(self):
        x_BCHW = torch.rand(4, 3, 32, 32)
        transformer = AffineTransformer(LeNetLocalisation(3, 6))
        assert torch.equal(transformer(x_BCHW), x_BCHW)
        (transformer(x_BCHW) ** 2).sum().backward()
        last = transformer.localisation.dense2
        assert isinstance(last, torch.nn.Linear)
        assert last.bias.grad is not None
        assert last.bias.grad.abs().min() > 0

    def test_it_warps_raw_pixels_by_what_the_net_sees(self):
        class Predict(torch.nn.Module):
            def forward(self, seen_BCHW: Tensor) -> Tensor:
                offset_B6 = torch.zeros(len(seen_BCHW), 6)
                offset_B6[:, 2] = seen_BCHW.flatten(1).mean(1)
                return offset_B6

        x_BCHW = torch.rand(2, 3, 32, 32)
        seen_BCHW = torch.ones(2, 3, 32, 32) * torch.tensor([0.0, 0.5])[:, None, None, None]
        looked = AffineTransformer(Predict())(x_BCHW, seen_BCHW)
        assert torch.equal(looked[0], x_BCHW[0])
        assert torch.equal(looked[1, :, :, :24], x_BCHW[1, :, :, 8:])
        assert not looked[1, :, :, 24:].any()

    @pytest.mark.parametrize("padding", PADDINGS)
    def test_what_lies_outside_is_up_to_the_padding(self, padding):
        transformer = AffineTransformer(LeNetLocalisation(3, 6), padding=padding)
        assert isinstance(transformer.localisation, LeNetLocalisation)
        with torch.no_grad():
            transformer.localisation.dense2.bias[2] = 2.0  # one image to the right
        seen = transformer(torch.full((1, 3, 32, 32), 0.5))
        assert torch.equal(seen, torch.full_like(seen, 0.0 if padding == "zeros" else 0.5))

    @pytest.mark.parametrize("image_px", [18, 32, 33, 64])
    def test_the_localisation_net_takes_any_size_with_the_same_parameters(self, image_px):
        net = LeNetLocalisation(3, 6, image_px)
        assert net(torch.rand(2, 3, image_px, image_px)).shape == (2, 6)
        assert sum(p.numel() for p in net.parameters()) == 8544

    def test_the_localisation_net_refuses_images_that_are_too_small(self):
        with pytest.raises(ValueError, match="18 px or more, got 17"):
            LeNetLocalisation(3, 6, 17)
