"""A distribution of maps: its divergence and draws against scipy and loops, and what keeps it from collapsing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from experiments.networks.models.stn_probabilistic import NUM_PARAMS, Belief, ProbabilisticNetwork, map_of
from experiments.networks.network import Batch
from ledger.errors import UserError
from stn.sampler import Sampler
from tests.support.networks import build, model_of, some_batch


def believing(name: str, sd: float = 0.05) -> ProbabilisticNetwork:
    """A network whose means and standard deviations depend on the image."""
    network = build(name)
    assert isinstance(network, ProbabilisticNetwork)
    with torch.no_grad():
        list(network.localisation.parameters())[-2].normal_(std=sd)
    return network


@given(st.floats(0.05, 3), st.floats(0.05, 3), st.floats(-2, 2))
def test_the_divergence_is_the_integral_that_defines_it(sd, prior_sd, mean):
    own, prior = norm(mean, sd), norm(mean, prior_sd)
    expected, _ = quad(
        lambda x: own.pdf(x) * (own.logpdf(x) - prior.logpdf(x)), mean - 12 * sd, mean + 12 * sd, points=[mean]
    )
    belief = Belief(torch.full((1, 2), mean), torch.full((1, 2), math.log(sd)))
    assert belief.divergence(prior_sd).item() == pytest.approx(2 * expected, rel=1e-3, abs=1e-4)


def test_draws_have_the_mean_and_the_spread_that_were_predicted():
    belief = Belief(torch.tensor([[0.5, -1.0]]).expand(4000, 2), torch.tensor([[0.2, 0.4]]).log().expand(4000, 2))
    params_NP = belief.at(torch.randn(5, 4000, 2)).flatten(0, 1)
    np.testing.assert_allclose(params_NP.mean(0), [0.5, -1.0], atol=0.02)
    np.testing.assert_allclose(params_NP.std(0), [0.2, 0.4], rtol=0.05)


def test_maps_are_those_that_their_parameters_name():
    found = map_of(torch.tensor([[0.3]])).theta_B23[0]
    turn_22 = np.array([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    np.testing.assert_allclose(found, np.column_stack([turn_22, [0, 0]]), atol=1e-6)
    found = map_of(torch.tensor([[0.3, 0.2, 0.1, -0.4]])).theta_B23[0]
    np.testing.assert_allclose(found, np.column_stack([math.exp(0.2) * turn_22, [0.1, -0.4]]), atol=1e-6)
    offset_6 = torch.arange(6) / 10
    np.testing.assert_allclose(map_of(offset_6[None]).theta_B23[0], np.eye(2, 3) + offset_6.reshape(2, 3).numpy())


@pytest.mark.parametrize("family", ["rotation", "similarity", "affine"])
@pytest.mark.parametrize("training", [False, True])
def test_it_answers_with_the_mean_probability_of_its_draws(family, training):
    name = f"stn_probabilistic:family={family}:samples=3:tested=4@fcn"  # no batch normalisation, no dropout
    network, batch = believing(name).train(training), some_batch(name, 5)
    num_params, answers = NUM_PARAMS[family], []
    assert model_of(name).num_draws == 3 * num_params
    with torch.no_grad():
        belief = network.believe(batch.raw_BCHW)
        assert belief.log_sd_BP.std(0).min() > 0
        drawn = norm.ppf(batch.u_BK.double().numpy()).reshape(5, 3, num_params).transpose(1, 0, 2)
        for number in drawn if training else network.tested_SP.numpy()[:, None]:
            params_BP = belief.mean_BP + belief.log_sd_BP.exp() * torch.tensor(number, dtype=torch.float32)
            seen_BCHW = Sampler()(batch.raw_BCHW, map_of(params_BP))
            answers.append(network.backbone(network.normalise(seen_BCHW)).softmax(1))
        assert len(answers) == (3 if training else 4)
        np.testing.assert_allclose(network(batch).exp(), torch.stack(answers).mean(0), atol=1e-5)


def test_when_tested_it_needs_no_draws_and_answers_each_image_alone():
    network, batch = believing("stn_probabilistic").eval(), some_batch("stn_probabilistic", 6)
    with torch.no_grad():
        answer = network(batch)
        assert torch.equal(network(replace(batch, u_BK=1 - batch.u_BK)), answer)
        alone = network(Batch.of(batch.raw_BCHW[2:3], network.num_draws))
    torch.testing.assert_close(alone, answer[2:3], atol=1e-5, rtol=1e-5)


def test_without_draws_it_is_the_transformer_of_its_means():
    network, batch = believing("stn_probabilistic:tested=0").eval(), some_batch("stn_probabilistic", 4)
    with torch.no_grad():
        expected = network.backbone(network.normalise(network.look(batch)))
        torch.testing.assert_close(network(batch), expected)


def test_the_term_is_the_weighted_divergence_from_the_start():
    batch = some_batch("stn_probabilistic", 4)
    network = believing("stn_probabilistic:entropy=3:spread=0.2").train()
    _, penalty = network.logits_and_penalty(batch)
    assert penalty is not None
    torch.testing.assert_close(penalty, 3 * network.believe(batch.raw_BCHW).divergence(0.2).mean())
    _, penalty = build("stn_probabilistic").train().logits_and_penalty(batch)
    assert penalty is not None and penalty.item() == pytest.approx(0, abs=1e-6)
    assert build("stn_probabilistic:entropy=0").train().logits_and_penalty(batch)[1] is None


@pytest.mark.parametrize(("entropy", "collapses"), [(0, True), (0.3, False)])
def test_without_the_term_the_distribution_collapses_and_with_it_not(entropy, collapses):
    """A spot to the right of the top is one class, to the left the other: a map that turns it loses the class."""
    torch.manual_seed(0)
    network = build(f"stn_probabilistic:family=rotation:entropy={entropy}:spread=0.5", num_classes=2).train()
    assert isinstance(network, ProbabilisticNetwork)
    network.backbone = torch.nn.Sequential(
        torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(192, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
    )  # type: ignore[assignment]
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        label_B = torch.randint(0, 2, (64,), generator=generator)
        angle_rad_B = (2 * label_B - 1) * (0.3 + 0.2 * torch.rand(64, generator=generator))
        x_B, y_B = 0.7 * angle_rad_B.sin(), -0.7 * angle_rad_B.cos()
        distance_BHW = (columns - x_B[:, None, None]).square() + (rows - y_B[:, None, None]).square()
        raw_BCHW = (-distance_BHW / 0.02).exp()[:, None].expand(-1, 3, -1, -1)
        u_BK = torch.rand(64, network.num_draws, generator=generator)
        logits_BX, penalty = network.logits_and_penalty(Batch(raw_BCHW, Batch.of(raw_BCHW).poses, u_BK))
        loss = F.cross_entropy(logits_BX, label_B)
        optimiser.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        optimiser.step()
    sd = network.believe(raw_BCHW).log_sd_BP.exp().mean()
    assert (sd < 0.1) if collapses else (sd > 0.25)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stn_probabilistic:samples=0", "samples: 0 is not between 1 and 64"),
        ("stn_probabilistic:spread=0", "spread: 0.0 is not above 0 and up to 2"),
        ("stn_probabilistic:entropy=-1", "entropy: -1.0 is not a number of 0 or more"),
        ("stn_probabilistic:family=affin", "family: 'affin' is not one of rotation, similarity, affine; did you mean"),
    ],
)
def test_what_cannot_be_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        build(name)
