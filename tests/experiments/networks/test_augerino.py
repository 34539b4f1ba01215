"""Ranges of augmentation that are learned: maps are matrix exponentials, answers means, a planted range is found."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import expm

from experiments.networks.models.augerino import GENERATORS, AugerinoNetwork
from experiments.networks.network import Batch
from stn.sampler import Sampler
from tests.support.networks import build, some_batch


def network_of(name: str) -> AugerinoNetwork:
    network = build(name)
    assert isinstance(network, AugerinoNetwork)
    return network


@pytest.mark.parametrize("family", GENERATORS)
def test_maps_are_the_exponential_of_the_generators(family):
    network = network_of(f"augerino:family={family}:start=0.4")
    u_BG = torch.rand(5, len(GENERATORS[family]))
    found = network.drawn(u_BG).theta_B23.detach().numpy()
    for u_G, theta_23 in zip(u_BG.double().numpy(), found, strict=True):
        algebra = np.zeros((3, 3))
        for u, rows in zip(u_G, GENERATORS[family], strict=True):
            algebra[:2] += (2 * u - 1) * 0.4 * np.reshape(rows, (2, 3))
        np.testing.assert_allclose(theta_23, expm(algebra)[:2], atol=1e-4)


def test_a_turn_by_the_range_is_a_turn_by_as_many_radians():
    network = network_of("augerino:family=turns:start=0.5")
    theta_23 = network.drawn(torch.ones(1, 1)).theta_B23[0].detach()
    assert math.atan2(theta_23[1, 0], theta_23[0, 0]) == pytest.approx(0.5, abs=1e-4)


def test_when_tested_it_answers_with_the_mean_probability_of_its_copies():
    network, batch = network_of("augerino:tested=3").eval(), some_batch("augerino:tested=3", 5)
    with torch.inference_mode():
        answers = [
            network.backbone(network.normalise(Sampler()(batch.raw_BCHW, network.drawn(u_BG)))).softmax(1)
            for u_BG in network.tested_u_SG[:, None].expand(3, 5, 6)
        ]
        np.testing.assert_allclose(network(batch).exp(), torch.stack(answers).mean(0), atol=1e-5)


def test_wide_ranges_are_rewarded_until_they_are_too_wide():
    network, batch = network_of("augerino:reward=2:start=0.3").train(), some_batch("augerino", 2)
    _, penalty = network.logits_and_penalty(batch)
    assert penalty is not None
    assert penalty.item() == pytest.approx(-2 * math.sqrt(6 * 0.3**2), rel=1e-4)
    with torch.no_grad():
        network.ranges.raw_G[0] = 11.0
    _, penalty = network.logits_and_penalty(batch)
    assert penalty is not None
    assert penalty.item() == 0


@pytest.mark.long
def test_a_planted_range_is_found_within_five_degrees():
    """A spot within 45 degrees of the top is one class, one near the bottom the other: 45 more make no harm.

    The example is Mario and Iggy of the paper's section 4.1.
    """
    network = network_of("augerino:family=turns:reward=0.05:start=0.4")
    network.backbone = torch.nn.Sequential(
        torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(192, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
    )  # type: ignore[assignment]
    weights = torch.optim.Adam(network.backbone.parameters(), lr=0.01)
    ranges = torch.optim.SGD(network.ranges.parameters(), lr=0.5)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        label_B = torch.randint(0, 2, (128,), generator=generator)
        angle_rad_B = (torch.rand(128, generator=generator) - 0.5) * math.pi / 2 + label_B * math.pi
        x_B, y_B = 0.7 * angle_rad_B.sin(), -0.7 * angle_rad_B.cos()
        distance_BHW = (columns - x_B[:, None, None]).square() + (rows - y_B[:, None, None]).square()
        raw_BCHW = (-distance_BHW / 0.02).exp()[:, None].expand(-1, 3, -1, -1)
        u_BK = torch.rand(128, network.num_draws, generator=generator)
        logits_BX, penalty = network.logits_and_penalty(Batch(raw_BCHW, Batch.of(raw_BCHW).poses, u_BK))
        assert penalty is not None
        weights.zero_grad()
        ranges.zero_grad()
        (F.cross_entropy(logits_BX, label_B) + penalty).backward()
        weights.step()
        ranges.step()
    assert math.degrees(network.ranges().item()) == pytest.approx(45, abs=5)
