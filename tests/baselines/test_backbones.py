"""Single backbones: what the contract over all of them does not say."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from baselines.backbones import BACKBONES, Backbone
from baselines.whitening import Whitening
from experiments.networks.network import Network, Site
from experiments.runs.costs import count_train_flops


def fcn(num_classes: int = 10, image_px: int = 28, in_channels: int = 3, width: float = 1.0) -> Backbone:
    return BACKBONES["fcn"](num_classes=num_classes, image_px=image_px, in_channels=in_channels, width=width)


def num_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def size_of(num_inputs: int, hidden: int, num_classes: int) -> int:
    """Weights and biases of two hidden layers, counted one layer at a time."""
    layers = ((num_inputs, hidden), (hidden, hidden), (hidden, num_classes))
    return sum(inputs * outputs + outputs for inputs, outputs in layers)


def cnn(num_classes: int = 10, image_px: int = 32, in_channels: int = 3, width: float = 1.0) -> Backbone:
    return BACKBONES["cnn"](num_classes=num_classes, image_px=image_px, in_channels=in_channels, width=width)


def normalised(x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Over images and places, as in training, without a scale."""
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return np.asarray((x - mean) / np.sqrt(var + 1e-5) + shift[:, None, None])


def convolved(x: np.ndarray, weight: np.ndarray, padding: int) -> np.ndarray:
    """By sums over the points of the kernel."""
    size = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = x.shape[2] - size + 1, x.shape[3] - size + 1
    return np.asarray(
        sum(
            np.einsum("oi,bihw->bohw", weight[:, :, i, j], x[:, :, i : i + rows, j : j + columns])
            for i in range(size)
            for j in range(size)
        )
    )


def halved(x: np.ndarray) -> np.ndarray:
    """The largest of each 2x2 values; a last row or column that is left over counts for nothing."""
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    x = x[:, :, : 2 * rows, : 2 * columns]
    return np.asarray(x.reshape(*x.shape[:2], rows, 2, columns, 2).max((3, 5)))


gelu = np.vectorize(lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))))


@pytest.mark.parametrize(
    ("image_px", "sides"), [(32, (31, 15, 7, 3)), (8, (7, 3, 3, 3)), (12, (11, 5, 2, 2)), (17, (16, 8, 4, 2))]
)
def test_c_n_n_its_logits(image_px, sides):
    """In training, written out in numpy; with weights that are none of those that it starts with."""
    torch.manual_seed(0)
    network = cnn(num_classes=4, image_px=image_px, width=0.25).double().train()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    x_BCHW = torch.randn(3, 3, image_px, image_px, dtype=torch.float64)
    values = iter([value.detach().numpy() for key, value in network.named_parameters() if value.requires_grad])
    weight = network.stages[0].get_parameter("0.weight").numpy()
    x = gelu(convolved(x_BCHW.numpy(), weight, padding=0) + next(values)[:, None, None])
    assert x.shape == (3, 24, sides[0], sides[0])
    for before, after in pairwise(sides):
        x = convolved(x, next(values), padding=1)
        x = halved(x) if before >= 4 else x
        assert x.shape[-1] == after
        x = gelu(normalised(x, next(values)))
        x = gelu(normalised(convolved(x, next(values), padding=1), next(values)))
    expected = x.max((2, 3)) @ next(values).T
    assert not list(values)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        logits = network(x_BCHW.contiguous(memory_format=memory_format))
        np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-10)


def test_convolutions_start_as_copies_as_far_as_there_are_inputs_and_outputs():
    torch.manual_seed(0)
    convolutions = [
        layer for layer in cnn().modules() if isinstance(layer, nn.Conv2d) and not isinstance(layer, Whitening)
    ]
    assert [layer.weight.shape[:2] for layer in convolutions] == [
        (16, 24), (16, 16), (64, 16), (64, 64), (64, 64), (64, 64)
    ]  # fmt: skip
    for layer in convolutions:
        num = min(layer.in_channels, layer.out_channels)
        x_BCHW = torch.randn(2, layer.in_channels, 9, 9)
        out_BCHW = layer(x_BCHW)
        assert torch.equal(out_BCHW[:, :num], x_BCHW[:, :num])
        for filter_IHW in layer.weight[num:]:
            assert filter_IHW.count_nonzero() == filter_IHW.numel()


@pytest.mark.parametrize("image_px", [8, 9, 10, 15, 16, 17, 28, 32, 33, 47, 60])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_images_from_8_to_60_px(image_px, in_channels):
    network = cnn(image_px=image_px, in_channels=in_channels)
    side = image_px - 1
    for stage, channels in enumerate((16, 64, 64), start=1):
        side = side // 2 if side >= 4 else side
        assert network.map_shape(stage, image_px, in_channels) == (channels, side)
    for num in (1, 2):
        assert network.train()(torch.rand(num, in_channels, image_px, image_px)).isfinite().all()


def test_smaller_ones_are_refused():
    with pytest.raises(ValueError, match=r"^backbone cnn needs images of 8 px or more, got 7$"):
        cnn(image_px=7)


def test_cnn_has_as_many_parameters_as_documented():
    assert "126,520 trained parameters" in " ".join((BACKBONES["cnn"].__doc__ or "").split())
    convolutions = 9 * (24 * 16 + 16 * 16 + 16 * 64 + 3 * 64 * 64)
    biases = 24 + 2 * (16 + 64 + 64)
    trained = [parameter for parameter in cnn().parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == convolutions + biases + 640 == 126_520


@pytest.mark.parametrize(("width", "channels"), [(4, (64, 256, 256)), (0.5, (8, 32, 32)), (1e-9, (1, 1, 1))])
def test_the_width_scales_the_channels_behind_the_whitening(width, channels):
    with torch.device("meta"):
        network = cnn(width=width)
    sizes = [stage.get_parameter("4.weight" if index else "2.4.weight") for index, stage in enumerate(network.stages)]
    assert tuple(len(weight) for weight in sizes) == channels
    assert network.stages[0].get_parameter("0.weight").shape == (24, 3, 2, 2)


def test_at_the_source_s_width_it_costs_what_the_source_says():
    """0.36 PFLOP for 9.9 epochs over 50,000 images. Source: arXiv:2404.00498, table 1."""
    backbone = cnn(width=4)
    network = Network(Site(lambda *_: backbone, 32, 10, torch.zeros(3), torch.ones(3)), backbone)
    assert 9.9 * 50_000 * count_train_flops(network, 32) == pytest.approx(0.36e15, rel=0.05)


def test_scales_of_normalisation_stay_one():
    norms = [layer for layer in cnn().modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 6
    for layer in norms:
        assert not layer.weight.requires_grad and (layer.weight == 1).all()
        assert layer.bias.requires_grad


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize(("in_channels", "image_px"), [(1, 8), (1, 28), (3, 28), (3, 32), (1, 60), (3, 60), (3, 224)])
def test_no_other_number_of_units_comes_closer_to_400_000_parameters(in_channels, image_px, num_classes):
    with torch.device("meta"):
        num = num_parameters(fcn(num_classes, image_px, in_channels))
    num_inputs = in_channels * image_px**2
    sizes = [size_of(num_inputs, hidden, num_classes) for hidden in range(1, 1000)]
    assert sizes[-1] > 2 * 400_000
    assert num == min(sizes, key=lambda size: abs(size - 400_000))
    if num_inputs < 5000:
        assert num == pytest.approx(400_000, rel=0.01)


@pytest.mark.parametrize(("in_channels", "hidden"), [(3, 159), (1, 349)])
def test_fcn_has_as_many_units_as_documented(in_channels, hidden):
    with torch.device("meta"):
        assert num_parameters(fcn(in_channels=in_channels)) == size_of(in_channels * 28**2, hidden, 10)


def test_the_width_scales_the_units():
    with torch.device("meta"):
        sizes = [num_parameters(fcn(width=width)) for width in (1e-9, 0.5, 2)]
    assert sizes == [size_of(3 * 28**2, hidden, 10) for hidden in (1, 80, 318)]


def test_f_c_n_its_logits():
    torch.manual_seed(0)
    network, x_BCHW = fcn(num_classes=4, image_px=9).double(), torch.randn(5, 3, 9, 9, dtype=torch.float64)
    weights = [value.detach().numpy() for value in network.parameters()]
    x = x_BCHW.numpy().reshape(5, 243)
    for weight, bias in zip(weights[:4:2], weights[1:4:2], strict=True):
        x = np.maximum(x @ weight.T + bias, 0)
    expected = x @ weights[4].T + weights[5]
    assert np.abs(x).max() > 0
    before = x_BCHW.clone()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        logits = network(x_BCHW.contiguous(memory_format=memory_format))
        np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-12)
    assert torch.equal(x_BCHW, before)


def test_fcn_has_no_map_of_its_own():
    network, x_BCHW = fcn(), torch.rand(2, 3, 28, 28)
    assert torch.equal(network.features(x_BCHW), x_BCHW)
    assert network.map_shape(1, 28) == (3, 28)
