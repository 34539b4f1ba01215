"""Muon, against singular value decompositions in float64 and against its step written out in numpy."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments.runs.muon import Muon, orthogonalised

Array = npt.NDArray[np.float64]
SHAPES = [(1, 1), (1, 7), (7, 1), (5, 5), (16, 96), (64, 144), (96, 16), (64, 24)]
LEAST, MOST = 0.68, 1.21
"""Where singular values end that are not too small at first."""

sizes = st.integers(1, 24)


def iterated(value: Array, num: int) -> Array:
    """What the iterations make of a singular value: a polynomial of it, again and again."""
    for _ in range(num):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    return value


def expected(update: Array, num: int) -> Array:
    """By a singular value decomposition."""
    if not update.any():
        return np.zeros_like(update)
    u, values, vt = np.linalg.svd(update, full_matrices=False)
    return np.asarray((u * iterated(values / np.linalg.norm(values), num)) @ vt)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def float32(array: Array) -> Tensor:
    return torch.from_numpy(array).float()


@given(sizes, sizes, st.integers(0, 1000), st.sampled_from([1, 3, 5]), st.sampled_from([1.0, 1e6]))
def test_singular_vectors_stay_and_values_are_those_of_the_polynomial(rows, columns, seed, num, scale):
    update = scale * numbers(rows, columns, seed=seed)
    found = orthogonalised(float32(update), num)
    np.testing.assert_allclose(found.double().numpy(), expected(update, num), atol=2e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num", [3, 5])
def test_orthogonalised_is_diagonal_between_the_singular_vectors(shape, num):
    update = numbers(*shape)
    u, values, vt = np.linalg.svd(update, full_matrices=False)
    between = u.T @ orthogonalised(float32(update), num).double().numpy() @ vt.T
    diagonal = np.diag(between)
    assert np.abs(between - np.diag(diagonal)).max() < 2e-4
    large = values / np.linalg.norm(values) > (0.02 if num == 3 else 0.01)
    assert large.any()
    assert diagonal[large].min() > LEAST
    assert diagonal.max() < MOST


def test_after_three_iterations_small_ones_are_still_less():
    values = np.array([1.0, 0.3, 0.005])
    directions = np.linalg.qr(numbers(3, 3))[0]
    update = float32(directions * values)
    three, five = (np.linalg.svd(orthogonalised(update, num).double().numpy())[1] for num in (3, 5))
    assert three.min() < 0.3 < LEAST < three[1] < MOST
    assert LEAST < five.min() < five.max() < MOST


@pytest.mark.parametrize("shape", SHAPES)
def test_zeros_and_what_is_of_rank_one(shape):
    assert torch.equal(orthogonalised(torch.zeros(shape)), torch.zeros(shape))
    row, column = numbers(shape[0], 1), numbers(1, shape[1], seed=1)
    found = orthogonalised(float32(row @ column)).double().numpy()
    direction = row @ column / np.linalg.norm(row @ column)
    np.testing.assert_allclose(found, iterated(np.ones(1), 3) * direction, atol=1e-4)


def test_in_float32_whatever_it_is_given():
    update = numbers(8, 8)
    for given_type in (torch.float64, torch.bfloat16):
        assert orthogonalised(torch.from_numpy(update).to(given_type)).dtype == torch.float32


def stepped(weight: Array, gradients: list[Array], lr: float, momentum: float) -> Array:
    """The documented step, so many times: filters to norm sqrt(O), then the orthogonalised Nesterov sum off them."""
    speed = np.zeros_like(weight)
    for gradient in gradients:
        speed = momentum * speed + gradient
        ahead = (gradient + momentum * speed).reshape(len(weight), -1)
        weight = weight * np.sqrt(len(weight)) / np.linalg.norm(weight)
        weight = weight - lr * expected(ahead, 3).reshape(weight.shape)
    return weight


def trained(
    weight: Array, gradients: list[Array], lr: float, momentum: float, memory_format: torch.memory_format
) -> Tensor:
    """The same by ours."""
    parameter = nn.Parameter(float32(weight).contiguous(memory_format=memory_format))
    muon = Muon([{"params": [parameter], "lr": lr}], momentum=momentum)
    for gradient in gradients:
        parameter.grad = float32(gradient).contiguous(memory_format=memory_format)
        muon.step()
    assert parameter.is_contiguous(memory_format=memory_format)
    return parameter.detach()


@settings(max_examples=30)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 6), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3])),
    st.integers(1, 4),
    st.floats(0.001, 0.5),
    st.floats(0, 0.95),
    st.integers(0, 1000),
)
def test_step_is_the_documented_one(shape, num_steps, lr, momentum, seed):
    weight = numbers(*shape, seed=seed)
    gradients = [numbers(*shape, seed=seed + 1 + step) for step in range(num_steps)]
    found = trained(weight, gradients, lr, momentum, torch.contiguous_format)
    np.testing.assert_allclose(found.double().numpy(), stepped(weight, gradients, lr, momentum), atol=3e-4 * num_steps)


def test_the_memory_format_has_no_say():
    weight, gradients = numbers(16, 8, 3, 3), [numbers(16, 8, 3, 3, seed=seed) for seed in (1, 2, 3)]
    first, last = (
        trained(weight, gradients, 0.2, 0.6, memory_format)
        for memory_format in (torch.contiguous_format, torch.channels_last)
    )
    torch.testing.assert_close(first, last.contiguous(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_step_does_nothing_where_infinity_was_found(memory_format):
    parameter = nn.Parameter(float32(numbers(8, 4, 3, 3)).contiguous(memory_format=memory_format))
    muon = Muon([{"params": [parameter], "lr": 0.2}], momentum=0.6)
    parameter.grad = torch.ones_like(parameter)
    muon.found_inf = torch.zeros(())
    start = parameter.detach().clone()
    muon.step()
    assert not torch.equal(parameter, start)
    before, speed = parameter.detach().clone(), muon.state[parameter]["momentum_buffer"].clone()
    for bad in (float("nan"), float("inf"), 1.0):
        parameter.grad = torch.full_like(parameter, bad)
        muon.found_inf = torch.ones(())
        muon.step()
        assert torch.equal(parameter, before)
        assert torch.equal(muon.state[parameter]["momentum_buffer"], speed)


def test_a_gradient_of_zero_does_no_harm():
    """Nor does a filter of zeros, nor one without a gradient."""
    weights = [float32(numbers(6, 2, 3, 3)), torch.zeros(6, 2, 3, 3), float32(numbers(6, 2, 3, 3, seed=1))]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    muon = Muon([{"params": parameters, "lr": 0.2}], momentum=0.6)
    parameters[0].grad = torch.zeros_like(parameters[0])
    parameters[1].grad = torch.zeros_like(parameters[1])
    for _ in range(3):
        muon.step()
    torch.testing.assert_close(parameters[0].detach(), weights[0] * 6**0.5 / weights[0].norm())
    assert not parameters[1].any()
    assert torch.equal(parameters[2], weights[2])
