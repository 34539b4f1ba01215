"""The running average of weights, against a recurrence in numpy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from experiments.runs.averaging import AVERAGE_EVERY, Averages
from ledger.config import Protocol
from tests.support.networks import some_images, train_on


def small_network() -> nn.Sequential:
    """With weights, biases, statistics, what is frozen, and a count that is a whole number."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    network[0].weight.requires_grad_(False)
    return network


def disturb(network: nn.Module) -> None:
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.randn_like(value))
        else:
            value.add_(1)


def test_it_is_the_documented_recurrence():
    network = small_network()
    averages = Averages(network)
    expected = {name: value.double().numpy().copy() for name, value in network.state_dict().items()}
    for progress in (0.1, 0.4, 0.75, 1.0):
        disturb(network)
        kept = 0.95**5 * progress**3
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                expected[name] = kept * expected[name] + (1 - kept) * value.double().numpy()
            else:
                expected[name] = expected[name] + 1
        averages.pull(progress)
        for name, value in network.state_dict().items():
            np.testing.assert_allclose(value.double().numpy(), expected[name], atol=1e-5, err_msg=name)
            if value.is_floating_point():
                assert torch.equal(averages.of_network[name], value)
    assert averages.of_network.keys() == expected.keys() - {"1.num_batches_tracked"}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_starts_at_the_network_and_is_no_view_of_it(memory_format):
    network = small_network().to(memory_format=memory_format)
    averages = Averages(network)
    start = copy.deepcopy(network.state_dict())
    disturb(network)
    assert all(torch.equal(value, start[name]) for name, value in averages.of_network.items())
    averages.pull(0.0)  # it counts for nothing yet
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in averages.of_network.items())
    assert network.get_parameter("0.weight").is_contiguous(memory_format=memory_format)


def test_what_does_not_change_stays_as_it_is():
    network = small_network()
    averages, before = Averages(network), copy.deepcopy(network.state_dict())
    for progress in (0.3, 0.6, 1.0):
        averages.pull(progress)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_training_averages_after_every_fifth_step(monkeypatch):
    """Whatever epochs are: of 12 steps in 4 epochs, after the fifth and the tenth."""
    pulls: list[float] = []
    monkeypatch.setattr(Averages, "pull", lambda self, progress: pulls.append(progress))
    for averaging in (True, False):
        protocol = Protocol(epochs=4, batch_size=16, averaging=averaging, precision="fp32", device="cpu")
        train_on(some_images(), "cnn@lenet", protocol)
        assert AVERAGE_EVERY == 5 and pulls == pytest.approx([5 / 12, 10 / 12])
