"""Transformers that tell turns by classes: what a name sets, what is told, and that nothing else has changed."""

import math

import pytest
import torch

from experiments.images.poses import PoseMaps
from experiments.networks.network import Batch
from experiments.networks.spatial_transformer import StnNetwork
from experiments.networks.variants import build_model, hyperparameters, parse_variant
from ledger.errors import UserError
from stn.affine import from_parts
from stn.maps import AffineMap
from stn.transformations.classes import TurnByClasses
from tests.support.networks import build, model_of


def stn(name: str) -> StnNetwork:
    network = build(name).eval()
    assert isinstance(network, StnNetwork)
    return network


def last_bias(network: StnNetwork) -> torch.nn.Parameter:
    return list(network.localisation.parameters())[-1]


@pytest.mark.parametrize("name", ["stn_rotation", "stn_similarity", "stn_rotation:head=classes:bins=12"])
def test_options_of_a_name_alone_are_in_no_configuration(name):
    """So runs of before they existed keep their keys: their configurations are those of the families without them."""
    assert hyperparameters(parse_variant(name)) == hyperparameters(parse_variant("stn_affine"))


@pytest.mark.parametrize(("name", "num"), [("stn_rotation", 36), ("stn_similarity:bins=24", 27)])
def test_the_localisation_network_has_an_output_for_every_angle(name, num):
    assert last_bias(stn(f"{name}:head=classes")).shape == (num,)


@pytest.mark.parametrize("place", ["input", "feature", "shared"])
def test_an_angle_that_is_certain_is_the_map_s(place):
    network = stn(f"stn_rotation:head=classes:bins=8:place={place}")
    with torch.no_grad():
        last_bias(network)[2] = 50.0  # a quarter turn from x to y
        (found,) = network.maps(Batch.of(torch.rand(3, 3, 32, 32)))
    assert isinstance(found, TurnByClasses)
    quarter_22 = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    torch.testing.assert_close(found.theta_B23[:, :, :2], quarter_22.expand(3, 2, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["rotation", "similarity"])
@pytest.mark.parametrize("angle_rad", [-0.6, 0.6, 2.0])
def test_what_is_told_turns_the_map_towards_the_true_pose(family, angle_rad):
    network = stn(f"stn_{family}:head=classes:supervision=2")
    posed = AffineMap(from_parts(angle_rad_B=torch.full((3,), -angle_rad)))  # posed -> upright
    raw_BCHW = torch.rand(3, 3, 32, 32)
    batch = Batch(raw_BCHW, PoseMaps(posed.projective().theta_B33), torch.rand(3, 0))
    _, penalty = network.logits_and_penalty(batch)
    assert penalty is not None
    penalty.backward()
    with torch.no_grad():
        bias = last_bias(network)
        assert bias.grad is not None
        bias.sub_(0.5 * bias.grad)
        (found,) = network.maps(batch)
    assert isinstance(found, AffineMap)
    turned = torch.atan2(found.theta_B23[0, 1, 0], found.theta_B23[0, 0, 0]).item()
    assert 0.01 < turned / angle_rad < 1
    bins = torch.arange(36) * 2 * math.pi / 36  # at the start each is as likely as the exponential of its cosine
    assert penalty.item() == pytest.approx(2 * (bins.cos().exp().sum().log().item() - math.cos(angle_rad)), abs=0.02)


def test_one_that_is_told_is_a_control():
    assert model_of("stn_rotation:head=classes").role == "transformer"
    assert model_of("stn_rotation:head=classes:supervision=1").role == "told"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stn_rotation:head=class", "head: 'class' is not one of regressed, classes; known: classes"),
        ("stn_affine:head=classes", "head: stn_affine has no such hyper-parameter"),
        ("stn_rotation:bins=12", "model.bins: goes with head=classes"),
        ("stn_rotation:head=classes:bins=3", "model.bins: 3 is not between 4 and 360"),
        ("stn_similarity:head=classes:supervision=1:steps=2", "steps: the true class of a turn in several steps"),
    ],
)
def test_what_cannot_be_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        build(name)


def test_no_configuration_sets_what_a_name_alone_sets():
    with pytest.raises(UserError) as caught:
        build_model(parse_variant("stn_rotation"), {"head": "classes"})
    assert str(caught.value) == "model.head: only a variant's name sets it: stn_rotation:head=classes"
