"""The contract of models and backbones, over all that is registered and every factor of a transformer; their sizes."""

import copy
import itertools
import re

import pytest
import torch
import torch.nn.functional as F

from baselines.backbones import BACKBONES
from experiments.machine.device import autocast
from experiments.networks.models import MODELS
from experiments.networks.network import count_parameters
from experiments.networks.variants import parse_variant
from experiments.runs.optimiser import Optimiser, filters_of
from ledger.config import Optim, Protocol
from ledger.errors import UserError
from ledger.roles import WITH_TRANSFORMER
from stn.localisation import last_dense
from tests.support.networks import (
    NETWORKS,
    ON_BACKBONES,
    OPTIONS,
    RIVALS,
    TURNING,
    build,
    built,
    model_of,
    num_parameters,
    same,
    some_batch,
)

TRANSFORMERS = [name for name in NETWORKS if model_of(name).role in WITH_TRANSFORMER]
LEARNED = [name for name in TRANSFORMERS if name in MODELS and name not in ("stn_random", "stn_probabilistic")]
# A tile, a disturbed start, an average over points and one over turned copies or drawn maps are not
# the identity; nor is the oracle.
IDENTITIES = [
    *LEARNED,
    *(name for name in ON_BACKBONES if name in TRANSFORMERS),
    *(
        name
        for name in OPTIONS
        if not any(
            option in name
            for option in ("heads=", "start_sd=", "anti_alias=", "choice=soft", "choice=latent", "noise_deg=")
        )
    ),
]
PLAIN_AT_FIRST = ("cnn", "cnn_recipe", "deformable", "ti_cnn", "amr")
"""Models that are the plain backbone before, or outside, training, and whose maps the classifier does not teach."""

every_network = pytest.mark.parametrize("name", list(dict.fromkeys([*NETWORKS, *RIVALS, *TURNING])))


@every_network
def test_images_become_logits(name):
    with torch.inference_mode():
        for num in (1, 2, 7):
            logits_BX = built(name)(some_batch(name, num))
            assert logits_BX.shape == (num, 10)
            assert logits_BX.isfinite().all()


@every_network
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_parameter_gets_a_finite_gradient(name, precision):
    network = copy.deepcopy(built(name)).to(memory_format=torch.channels_last).train()
    with autocast(torch.device("cpu"), precision):
        logits_BX, penalty = network.logits_and_penalty(some_batch(name, 7))
    loss = F.cross_entropy(logits_BX.float(), torch.arange(7))
    (loss if penalty is None else loss + penalty).backward()
    for parameter_name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    last = list(network.backbone.parameters())[-1].grad
    assert last is not None
    assert last.any()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_gradient_reaches_what_chooses_the_maps(name):
    network = copy.deepcopy(built(name)).train()
    if not hasattr(network, "localisation"):
        assert name in ("stn_frozen", "stn_random")
        return
    logits_BX, penalty = network.logits_and_penalty(some_batch(name, 7))
    # Classes of images teach `realign` nothing.
    loss = penalty if name.startswith("realign") else F.cross_entropy(logits_BX, torch.arange(7))
    assert loss is not None
    loss.backward()
    for last in last_dense(network.get_submodule("localisation")).parameters():
        assert last.grad is not None
        assert last.grad.any()


@every_network
def test_the_seed_decides_the_start(name):
    start = built(name).state_dict()
    torch.rand(3)
    again = build(name)
    assert same(start, again.state_dict())
    other = dict(built(name, seed=1).named_parameters())
    # The rest is constant, or copies of inputs: zeros and ones.
    drawn = {key for key, value in other.items() if ((value != value.flatten()[0]) & (value != 0) & (value != 1)).any()}
    assert any(key.startswith("backbone.") for key in drawn)
    assert not [key for key in drawn if torch.equal(start[key], other[key])]
    batch, first = some_batch(name, 3), copy.deepcopy(built(name))
    for training in (True, False):
        logits = []
        for network in (first, again):
            torch.manual_seed(1)  # dropout
            logits.append(network.train(training)(batch))
        assert torch.equal(*logits)


@every_network
def test_a_model_can_be_built_without_numbers_and_leaves_the_random_state_alone(name):
    state = torch.get_rng_state()
    with torch.device("meta"):
        network = build(name)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), state)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in built(name).state_dict().items()}


@every_network
def test_weights_can_be_stored_and_loaded(name):
    network, other = built(name), copy.deepcopy(built(name, seed=1))
    batch = some_batch(name, 2)
    with torch.no_grad():
        assert not torch.equal(other(batch), network(batch))
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(batch), network(batch))


@every_network
def test_its_learning_rate_factors_name_its_parts(name):
    factors = model_of(name).lr_factors()
    parts = {part for part, _ in built(name).named_children()}
    assert set(factors) <= parts
    assert "backbone" in parts - set(factors)  # the rate that a run's history shows is the backbone's
    for kind in ("muon", "sgd") if filters_of(built(name).backbone) else ("sgd",):
        groups = Optimiser(built(name), Protocol(optimiser=kind), Optim(), factors).groups
        assert groups[0]["lr"] == Optim().lr
        in_groups = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(in_groups) == sorted(id(each) for each in built(name).parameters() if each.requires_grad)


@every_network
def test_the_backbone_starts_the_same_in_every_model(name):
    plain = built(f"cnn@{parse_variant(name).backbone}").backbone.state_dict()
    state = built(name).backbone.state_dict()
    if name == "cnn_matched" or "heads=" in name:  # wider, or with more channels to see
        assert any(plain[key].shape != state[key].shape for key in plain)
    else:
        assert all(torch.equal(plain[key], state[key]) for key in plain)


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_transformer_starts_as_the_identity(name):
    network, batch = built(name), some_batch(name, 4)
    plain = built(f"cnn@{parse_variant(name).backbone}")
    with torch.inference_mode():
        torch.testing.assert_close(network.look(batch), batch.raw_BCHW, atol=1e-6, rtol=0)
        torch.testing.assert_close(network(batch), plain(batch), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in IDENTITIES and "cnn@" not in name])
def test_other_networks_start_as_something_else(name):
    network, batch = built(name), some_batch(name, 4)
    with torch.inference_mode():
        is_plain = torch.allclose(network(batch), built("cnn")(batch), atol=1e-5)
    assert is_plain == (name in PLAIN_AT_FIRST)


@every_network
def test_what_it_looks_at_can_be_shown(name):
    network, batch = built(name), some_batch(name, 3)
    with torch.inference_mode():
        maps, seen_BCHW = network.maps(batch), network.look(batch)
    if maps is not None:
        assert seen_BCHW is not None
        assert [each.apply(torch.rand(5, 2)).shape for each in maps] == [(3, 5, 2)] * len(maps)
    if seen_BCHW is not None:
        assert seen_BCHW.shape[:2] == (3, 3)
        assert seen_BCHW.isfinite().all()


@every_network
def test_another_size_and_number_of_classes(name):
    image_px = 48 if "p4" in name else 47  # p4 needs sizes that it can halve
    network = build(name, num_classes=37, image_px=image_px).eval()
    with torch.inference_mode():
        assert network(some_batch(name, 2, image_px)).shape == (2, 37)


@every_network
def test_too_small_images_are_refused_and_the_smallest_allowed_ones_train(name):
    refused: list[str] = []
    for image_px in itertools.count(8):  # as small as a protocol allows
        try:
            with torch.device("meta"):
                build(name, image_px=image_px)
            break
        except UserError as error:
            refused.append(str(error))
    assert image_px <= 34
    assert refused or parse_variant(name).backbone in ("fcn", "cnn")
    for size, message in enumerate(refused, start=8):
        assert message.startswith(f"{parse_variant(name)} on images of {size} px: ")
        assert "\n" not in message
        assert re.search(r" of (a multiple of \d+ px|\d+ px or more), got \d+$", message)
    network = build(name, image_px=image_px).train()
    # One image, as the last batch of an epoch may be.
    logits_BX = network(some_batch(name, 1, image_px))
    assert logits_BX.shape == (1, 10)
    F.cross_entropy(logits_BX, torch.tensor([3])).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


every_backbone = pytest.mark.parametrize("backbone", list(BACKBONES))


@pytest.mark.parametrize(
    ("name", "num"),
    [
        ("cnn@lenet", 31_340),
        ("stn_affine@lenet", 39_884),
        ("cnn", 126_520),
        ("stn_affine", 126_520 + 8_544),
        ("stn_frozen", 126_520),
        ("cnn@cnn4", 243_146),
        ("stn_affine@cnn4", 243_146 + 8_544),
        ("cnn@p4cnn", 241_386),
        ("cnn@resnet18", 11_173_962),
        ("stn_affine@resnet18", 11_173_962 + 8_544),
    ],
)
def test_parameters_are_as_many_as_documented(name, num):
    assert num_parameters(name) == num


@every_backbone
def test_the_matched_cnn_is_as_large_as_the_transformer_s(backbone):
    plain, matched, target = (num_parameters(f"{m}@{backbone}") for m in ("cnn", "cnn_matched", "stn_affine"))
    assert abs(matched - target) <= abs(plain - target)
    assert matched == pytest.approx(target, rel=0.02)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_a_transformer_is_also_where_the_backbone_is_small_beside_the_localisation_network(width):
    matched, target = (num_parameters(f"{model}@cnn:width={width}") for model in ("cnn_matched", "stn_affine"))
    assert matched == pytest.approx(target, rel=0.06)  # channels come in whole numbers


@every_backbone
def test_no_width_matches_better(backbone):
    with torch.device("meta"):
        sizes = [
            count_parameters(BACKBONES[backbone](num_classes=10, image_px=32, in_channels=3, width=1 + step / 256))
            for step in range(0, 257, {"lenet": 1, "resnet18": 64}.get(backbone, 8))
        ]
    target, matched = num_parameters(f"stn_affine@{backbone}"), num_parameters(f"cnn_matched@{backbone}")
    assert abs(matched - target) <= min(abs(size - target) for size in sizes)


@every_backbone
def test_a_backbone_grows_with_its_width(backbone):
    with torch.device("meta"):
        sizes = [
            count_parameters(BACKBONES[backbone](num_classes=10, image_px=32, in_channels=3, width=width))
            for width in (0.01, 0.5, 1.0, 1.5, 2.0)
        ]
    assert sizes == sorted(set(sizes))
    assert [num_parameters(f"cnn@{backbone}:width={width}") for width in (0.01, 0.5, 1, 1.5, 2)] == sizes


def test_pixels_are_normalised_by_channel():
    network, raw_BCHW = built("cnn"), torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    torch.testing.assert_close(network.normalise(raw_BCHW), (raw_BCHW - mean) / std)
