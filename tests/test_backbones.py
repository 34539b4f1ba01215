"""Single backbones: what the contract over all of them does not say."""

import numpy as np
import pytest
import torch

from baselines.backbones import BACKBONES, Backbone


def fcn(num_classes: int = 10, image_px: int = 28, in_channels: int = 3, width: float = 1.0) -> Backbone:
    return BACKBONES["fcn"](num_classes=num_classes, image_px=image_px, in_channels=in_channels, width=width)


def num_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def size_of(num_inputs: int, hidden: int, num_classes: int) -> int:
    """Weights and biases of two hidden layers, counted one layer at a time."""
    layers = ((num_inputs, hidden), (hidden, hidden), (hidden, num_classes))
    return sum(inputs * outputs + outputs for inputs, outputs in layers)


class TestFCN:
    @pytest.mark.parametrize("num_classes", [2, 10, 100])
    @pytest.mark.parametrize(
        ("in_channels", "image_px"), [(1, 8), (1, 28), (3, 28), (3, 32), (1, 60), (3, 60), (3, 224)]
    )
    def test_no_other_number_of_units_comes_closer_to_400_000_parameters(self, in_channels, image_px, num_classes):
        with torch.device("meta"):
            num = num_parameters(fcn(num_classes, image_px, in_channels))
        num_inputs = in_channels * image_px**2
        sizes = [size_of(num_inputs, hidden, num_classes) for hidden in range(1, 1000)]
        assert sizes[-1] > 2 * 400_000
        assert num == min(sizes, key=lambda size: abs(size - 400_000))
        if num_inputs < 5000:
            assert num == pytest.approx(400_000, rel=0.01)

    @pytest.mark.parametrize(("in_channels", "hidden"), [(3, 159), (1, 349)])
    def test_it_has_as_many_units_as_documented(self, in_channels, hidden):
        with torch.device("meta"):
            assert num_parameters(fcn(in_channels=in_channels)) == size_of(in_channels * 28**2, hidden, 10)

    def test_the_width_scales_the_units(self):
        with torch.device("meta"):
            sizes = [num_parameters(fcn(width=width)) for width in (1e-9, 0.5, 2)]
        assert sizes == [size_of(3 * 28**2, hidden, 10) for hidden in (1, 80, 318)]

    def test_its_logits(self):
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

    def test_it_has_no_map_of_its_own(self):
        network, x_BCHW = fcn(), torch.rand(2, 3, 28, 28)
        assert torch.equal(network.features(x_BCHW), x_BCHW)
        assert network.map_shape(1, 28) == (3, 28)
