"""Deformable convolutions against their definition, ordinary ones and torch's own count of FLOPs."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from baselines.deformable import DeformableConv2d
from experiments.networks.models.deformable import DeformableNetwork
from experiments.runs.costs import count_train_flops
from experiments.runs.optimiser import Optimiser
from ledger.config import Optim, Protocol
from tests.support.networks import at, build, model_of, some_batch


def deformed_by_loops(
    x_CHW: np.ndarray, weight: np.ndarray, offset_YHW: np.ndarray, stride: int, padding: int
) -> np.ndarray:
    """Deformable convolution as its definition says, one point at a time."""
    num_out, _, kernel_h, kernel_w = weight.shape
    out = np.zeros((num_out, *offset_YHW.shape[1:]))
    for row in range(out.shape[1]):
        for column in range(out.shape[2]):
            for i in range(kernel_h):
                for j in range(kernel_w):
                    down, right = offset_YHW[2 * (i * kernel_w + j) :, row, column][:2]
                    seen = at(x_CHW, row * stride - padding + i + down, column * stride - padding + j + right)
                    out[:, row, column] += weight[:, :, i, j] @ seen
    return out


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 5, bias=False),
        nn.Conv2d(4, 6, 4, stride=2, padding=1),
        nn.Conv2d(4, 6, (1, 3), padding=(0, 2), dilation=2),
        nn.Conv2d(4, 6, 3, groups=2),
    ],
)
def test_deformable_starts_as_the_convolution(conv):
    x_BCHW = torch.randn(5, 4, 12, 11)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        deformable = DeformableConv2d(copy.deepcopy(conv)).to(memory_format=memory_format)
        out_BCHW = deformable(x_BCHW.contiguous(memory_format=memory_format))
        torch.testing.assert_close(out_BCHW, conv(x_BCHW), atol=1e-5, rtol=1e-5)
        assert out_BCHW.is_contiguous(memory_format=memory_format)


def test_a_constant_offset_of_whole_pixels_shifts_the_map():
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    deformable, x_BCHW, (down, right) = DeformableConv2d(conv), torch.randn(2, 4, 12, 12), (2, -3)
    with torch.no_grad():
        deformable.offsets.get_parameter("bias").copy_(torch.tensor([down, right] * 9))
    margin = 4
    around = F.pad(x_BCHW, [margin] * 4)
    rows, columns = (slice(margin - 1 + shift, margin + 13 + shift) for shift in (down, right))
    expected = F.conv2d(around[:, :, rows, columns], conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(deformable(x_BCHW), expected, atol=1e-5, rtol=1e-5)


def test_any_offsets_against_loops():
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False).double()
    deformable, x_BCHW = DeformableConv2d(conv), torch.randn(2, 2, 7, 7, dtype=torch.float64)
    deformable.offsets.double()
    nn.init.normal_(deformable.offsets.weight, std=0.3)
    offset_BYHW = deformable.offsets(x_BCHW).detach().numpy()
    assert np.abs(offset_BYHW).max() > 1.5
    expected = [
        deformed_by_loops(x_CHW, conv.weight.detach().numpy(), offset_YHW, stride=2, padding=1)
        for x_CHW, offset_YHW in zip(x_BCHW.numpy(), offset_BYHW, strict=True)
    ]
    np.testing.assert_allclose(deformable(x_BCHW).detach().numpy(), np.stack(expected), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "num_convs"),
    [
        ("deformable@cnn", 4),
        ("deformable:num_stages=3@cnn", 6),  # the whitening stays as it is
        ("deformable:num_stages=4@cnn4", 4),
        ("deformable@lenet", 2),
        ("deformable:num_stages=1@resnet18", 4),  # the shortcut of one point stays as it is
    ],
)
def test_the_network_starts_as_the_plain_one(name, num_convs):
    batch, plain, rival = some_batch(name, 3), build(f"cnn@{name.split('@')[1]}"), build(name)
    assert sum(isinstance(module, DeformableConv2d) for module in rival.modules()) == num_convs
    for training in (True, False):
        logits = []
        for network in (plain, rival):
            torch.manual_seed(1)  # dropout
            logits.append(network.train(training)(batch))
        torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)


def test_the_offsets_learn_at_a_rate_of_their_own():
    name = "deformable:offset_lr_factor=0.5"
    network = build(name)
    assert isinstance(network, DeformableNetwork)
    assert not any("offsets" in key for key, _ in network.backbone.named_parameters())
    factors = model_of(name).lr_factors()
    groups = Optimiser(network, Protocol(optimiser="sgd"), Optim(lr=0.2), factors).groups
    rates: dict[int, object] = {}
    for group in groups:
        parameters = group["params"]
        assert isinstance(parameters, list)
        for parameter in parameters:
            assert id(parameter) not in rates  # no part has another's parameters
            rates[id(parameter)] = group["lr"]
    assert rates.keys() == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert {rates[id(p)] for p in network.offsets.parameters()} == {0.1}
    assert {rates[id(p)] for p in network.backbone.parameters() if p.requires_grad} == {0.2}


def test_a_copy_bends_by_its_own_offsets():
    network, batch = build("deformable").eval(), some_batch("deformable", 2)
    assert isinstance(network, DeformableNetwork)
    before, other = network(batch), copy.deepcopy(network)
    for parameter in other.offsets.parameters():
        nn.init.normal_(parameter)
    assert torch.equal(network(batch), before)
    assert not torch.allclose(other(batch), before, atol=1e-3)
    network.load_state_dict(other.state_dict())
    assert torch.equal(network(batch), other(batch))


def test_flops_are_the_plain_network_s_and_those_of_the_offsets():
    plain, rival = (count_train_flops(build(name), 32) for name in ("cnn@cnn4", "deformable:num_stages=1@cnn4"))
    # 128 channels, 3x3 points, 18 offsets, a map of 4x4: forward, and backward for weights and input.
    assert rival - plain == 3 * 2 * (128 * 9) * 18 * 16


def test_flops_of_a_first_layer_include_the_gradient_of_its_offsets():
    plain, rival = (count_train_flops(build(name), 32) for name in ("cnn@lenet", "deformable@lenet"))
    first = 2 * (3 * 25) * 10 * 28 * 28  # once more: the plain layer's image needs no gradient
    offsets = 2 * 2 * (3 * 25) * 50 * 28 * 28 + 3 * 2 * (10 * 25) * 50 * 10 * 10
    assert rival - plain == first + offsets
