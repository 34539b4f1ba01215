"""The first layer that is worked out from images, against numpy."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.whitening import EPS, Whitening
from experiments.networks.network import Network
from experiments.runs.optimiser import Optimiser
from ledger.config import Optim, Protocol
from tests.support.networks import build, some_batch

Array = npt.NDArray[np.float64]


def natural_images(num: int, channels: int, image_px: int, seed: int = 0) -> Tensor:
    """Noise that falls off with its frequency, as pictures of the world have it, its channels much alike."""
    random = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(image_px)
    fall = 1 / np.maximum(np.hypot(frequency[:, None], frequency), 1 / image_px)
    noise = random.normal(size=(num, channels, image_px, image_px))
    noise = 0.3 * noise + noise[:, :1]
    images = np.fft.ifft2(np.fft.fft2(noise) * fall).real
    return torch.from_numpy(images / images.std()).float()


def patches(x_BCHW: Tensor) -> Array:
    """All 2x2 patches as rows: channels, then rows, then columns."""
    x = x_BCHW.double().numpy()
    corners = [
        x[:, :, down : x.shape[2] - 1 + down, right : x.shape[3] - 1 + right] for down in (0, 1) for right in (0, 1)
    ]
    stacked = np.stack(corners, axis=2).reshape(len(x), 4 * x.shape[1], -1)
    return np.asarray(stacked.transpose(0, 2, 1).reshape(-1, 4 * x.shape[1]))


def fitted(x_BCHW: Tensor, num_views: int = 1) -> Whitening:
    layer = Whitening(num_views * x_BCHW.shape[1])
    layer.fit(x_BCHW)
    return layer


def filters_of(layer: Whitening) -> Array:
    """One a row, without the negatives."""
    num = len(layer.weight) // 2
    filters = layer.weight.detach().double().numpy().reshape(2 * num, -1)
    assert np.array_equal(filters[num:], -filters[:num])
    return np.asarray(filters[:num])


def bias_of(layer: Whitening) -> Tensor:
    return layer.get_parameter("bias").detach()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("image_px", [8, 32])
def test_what_comes_out_is_uncorrelated_and_of_variance_one(channels, image_px):
    x_BCHW = natural_images(450, channels, image_px)  # more than are in memory together
    layer = fitted(x_BCHW)
    assert layer.weight.shape == (8 * channels, channels, 2, 2)
    moments = np.linalg.eigvalsh(patches(x_BCHW).T @ patches(x_BCHW) / len(patches(x_BCHW)))
    out = layer(x_BCHW).detach() - bias_of(layer)[:, None, None]
    out_NP = out.permute(0, 2, 3, 1).reshape(-1, 8 * channels)[:, : 4 * channels].double().numpy()
    found = out_NP.T @ out_NP / len(out_NP)
    # One but for what is added to each eigenvalue.
    expected = moments[::-1] / (moments[::-1] + EPS)
    assert expected.min() > 0.5
    np.testing.assert_allclose(found, np.diag(expected), atol=2e-3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_filters_are_numpy_s_eigenvectors_over_the_roots_of_their_eigenvalues(channels):
    x_BCHW = natural_images(20, channels, 12)
    rows = patches(x_BCHW)
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    expected = (vectors / np.sqrt(values + EPS)).T[::-1]  # the strongest direction first
    found = filters_of(fitted(x_BCHW))
    signs = np.sign((found * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(found, signs * expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    lengths = np.linalg.norm(found, axis=1)
    assert (np.diff(lengths) >= 0).all()


def test_the_largest_number_of_a_filter_is_positive():
    for seed in range(5):
        found = filters_of(fitted(natural_images(6, 3, 16, seed)))
        assert (found[np.arange(12), np.abs(found).argmax(1)] > 0).all()


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 100))
def test_each_view_is_whitened_by_itself(num_views, channels, seed):
    x_BCHW = natural_images(5, channels, 10, seed)
    one, several = fitted(x_BCHW).weight, fitted(x_BCHW, num_views).weight
    num = 8 * channels
    assert several.shape == (num_views * num, num_views * channels, 2, 2)
    for view in range(num_views):
        for other in range(num_views):
            block = several[view * num : (view + 1) * num, other * channels : (other + 1) * channels]
            assert torch.equal(block, one if view == other else torch.zeros_like(one))


def test_the_order_of_the_images_has_no_say_and_the_memory_format_neither():
    x_BCHW = natural_images(30, 3, 12)
    expected = fitted(x_BCHW).weight
    torch.testing.assert_close(fitted(x_BCHW.flip(0)).weight, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(fitted(x_BCHW.contiguous(memory_format=torch.channels_last)).weight, expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_equal_images_do_no_harm(channels, value):
    """Their patches have one direction, or none; the others get filters of length 1 / sqrt(EPS)."""
    found = filters_of(fitted(torch.full((9, channels, 8, 8), value)))
    assert np.isfinite(found).all()
    lengths = np.linalg.norm(found, axis=1)
    assert lengths[0] == pytest.approx((4 * channels * value**2 + EPS) ** -0.5, rel=1e-4)
    np.testing.assert_allclose(lengths[1:], EPS**-0.5, rtol=1e-3)


@pytest.mark.parametrize(("channels", "image_px"), [(3, 8), (1, 8), (4, 8), (3, 2), (3, 3)])
def test_one_image_does_no_harm(channels, image_px):
    """Also where it has fewer patches than a patch has numbers."""
    x_BCHW = torch.rand(1, channels, image_px, image_px)
    rows = patches(x_BCHW)
    found = filters_of(fitted(x_BCHW))
    values = np.maximum(np.linalg.eigvalsh(rows.T @ rows / len(rows))[::-1], 0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), (values + EPS) ** -0.5, rtol=1e-3)
    # Whatever their number, they are at right angles.
    between = found @ found.T / np.outer(*[np.linalg.norm(found, axis=1)] * 2)
    np.testing.assert_allclose(between, np.eye(4 * channels), atol=1e-5)


@pytest.mark.parametrize("optimiser", ["muon", "sgd"])
def test_only_its_bias_is_trained(optimiser):
    network = build("cnn").train()
    network.whiten(some_batch("cnn", 20).raw_BCHW)
    layer = whitening_of(network)
    weight, bias = layer.weight.detach().clone(), bias_of(layer).clone()
    steps = Optimiser(network, Protocol(optimiser=optimiser), Optim(lr=0.1), {})
    network(some_batch("cnn", 8)).square().sum().backward()
    assert layer.weight.grad is None
    steps.step()
    assert torch.equal(layer.weight, weight)
    # At first, what follows copies 16 of its 24 channels, and nothing comes back from the others.
    assert (bias_of(layer) != bias)[:16].all()


def test_one_whose_filters_are_trained_is_not_fitted():
    layer = Whitening(3)
    layer.train_filters()
    before = layer.weight.detach().clone()
    layer.fit(natural_images(9, 3, 8))
    assert torch.equal(layer.weight, before)
    assert layer.weight.requires_grad


def whitening_of(network: Network) -> Whitening:
    (found,) = (layer for layer in network.modules() if isinstance(layer, Whitening))
    return found


def test_whitening_goes_by_the_images_as_the_backbone_sees_them():
    network, raw_BCHW = build("cnn"), some_batch("cnn", 30).raw_BCHW
    network.whiten(raw_BCHW)
    mean, std = (torch.tensor(value)[:, None, None] for value in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    expected = fitted((raw_BCHW - mean) / std)
    torch.testing.assert_close(whitening_of(network).weight, expected.weight, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["stn_affine", "stn_affine:place=feature", "ti_cnn", "deformable", "polar", "cnn_tta"])
def test_every_model_is_whitened_alike(name):
    raw_BCHW, networks = some_batch(name, 30).raw_BCHW, [build("cnn"), build(name)]
    for network in networks:
        network.whiten(raw_BCHW)
    first, second = map(whitening_of, networks)
    assert torch.equal(first.weight, second.weight)


def test_heads_are_whitened_one_by_one():
    network, raw_BCHW = build("stn_affine:heads=3"), some_batch("cnn", 30).raw_BCHW
    network.whiten(raw_BCHW)
    plain = build("cnn")
    plain.whiten(raw_BCHW)
    weight = whitening_of(network).weight
    assert weight.shape == (72, 9, 2, 2)
    for head in range(3):
        block = weight[24 * head : 24 * head + 24, 3 * head : 3 * head + 3]
        assert torch.equal(block, whitening_of(plain).weight)
    assert weight.count_nonzero() <= 3 * 24 * 12


@pytest.mark.parametrize("name", ["cnn@cnn4", "stn_affine@lenet", "cnn@fcn"])
def test_a_backbone_without_such_a_layer_stays_as_it_is(name):
    network = build(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.whiten(some_batch(name, 9).raw_BCHW)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
