"""Which parameters are moved by what, and how fast: Muon, SGD and AdamW, learning rates by part, weight decay."""

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch

from experiments.networks.network import Network
from experiments.runs.muon import Muon
from experiments.runs.optimiser import ADDED_SHARE, MUON_MOMENTUM, OF_ADAMW, SGD_SHARE, Optimiser
from ledger.config import Optim, Protocol
from tests.support.networks import build

OPTIM = Optim(lr=0.2, weight_decay=0.01)


def optimiser_of(
    network: Network,
    optimiser: Literal["muon", "sgd", "adamw"],
    lr_factors: Mapping[str, float] | None = None,
    **protocol: Any,
) -> Optimiser:
    return Optimiser(network, Protocol(optimiser=optimiser, **protocol), OPTIM, lr_factors or {})


def owners(network: Network, optimiser: Optimiser) -> dict[str, tuple[str, float, float]]:
    """By parameter's name: what moves it, its learning rate and its weight decay."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[str, tuple[str, float, float]] = {}
    for part in optimiser.parts:
        for group in part.param_groups:
            assert any(group is each for each in optimiser.groups)
            for parameter in group["params"]:
                name = names[id(parameter)]
                assert name not in found, name
                found[name] = (type(part).__name__, group["lr"], group.get("weight_decay", 0.0))
    return found


@pytest.mark.parametrize("name", ["cnn", "cnn@cnn4", "cnn@resnet18", "stn_affine", "stn_affine@lenet"])
def test_muon_has_the_backbone_s_filters_and_sgd_all_else(name):
    network = build(name)
    found = owners(network, optimiser_of(network, "muon"))
    trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
    assert found.keys() == trained.keys()
    for key, (kind, _, decay) in found.items():
        is_filter = key.startswith("backbone.") and trained[key].ndim == 4
        assert kind == ("Muon" if is_filter else "SGD"), key
        assert decay == (0.01 if trained[key].ndim > 1 and not is_filter else 0.0), key
        if key.endswith("bias"):
            assert decay == 0.0
    assert {kind for kind, _, _ in found.values()} == {"Muon", "SGD"}
    if name.startswith("stn"):  # its localisation network has filters too
        assert any(key.startswith("localisation.") and trained[key].ndim == 4 for key in found)


@pytest.mark.parametrize("name", ["stn_affine:localisation=backbone", "canonical:scorer=backbone@resnet18:width=0.1"])
def test_a_second_backbone_is_trained_as_the_first(name):
    network = build(name)
    found = owners(network, optimiser_of(network, "muon", {"localisation": 0.5}))
    assert {kind for key, (kind, _, _) in found.items() if key.startswith("localisation.")} == {"Muon", "SGD"}
    for key, (kind, lr, decay) in found.items():
        if key.startswith("localisation."):
            assert found[key.replace("localisation.", "backbone.")] == (kind, pytest.approx(lr / 0.5), decay), key


@pytest.mark.parametrize(("kind", "owner"), [("sgd", "SGD"), ("adamw", "AdamW")])
@pytest.mark.parametrize("name", ["cnn", "cnn@lenet", "cnn@resnet18", "cnn@fcn", "stn_affine", "stn_affine@lenet"])
def test_one_has_everything_and_weights_decay_and_biases_and_normalisation_do_not(name, kind, owner):
    network = build(name)
    found = owners(network, optimiser_of(network, kind))
    trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
    assert found == {key: (owner, 0.2, 0.01 if value.ndim > 1 else 0.0) for key, value in trained.items()}


def test_what_is_frozen_has_no_owner():
    """The default backbone's whitening filters, and the scales of its normalisation."""
    network = build("cnn")
    frozen = {key for key, value in network.named_parameters() if not value.requires_grad}
    assert len(frozen) == 7 and "backbone.stages.0.0.weight" in frozen
    for kind in ("muon", "sgd", "adamw"):
        optimiser = optimiser_of(network, kind)
        assert not frozen & owners(network, optimiser).keys()
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = {key: value.detach().clone() for key, value in network.named_parameters()}
        optimiser.step()
        moved = {key for key, value in network.named_parameters() if not torch.equal(value, before[key])}
        assert moved == before.keys() - frozen


@pytest.mark.parametrize(
    ("kind", "share", "added_share"), [("muon", SGD_SHARE, ADDED_SHARE), ("sgd", 1.0, 1.0), ("adamw", 1.0, 1.0)]
)
def test_a_part_has_the_rate_of_its_factor(kind, share, added_share):
    network = build("stn_affine@lenet")
    found = owners(network, optimiser_of(network, kind, {"localisation": 0.1}))
    for key, (owner, lr, _) in found.items():
        expected = 0.2 * (1.0 if owner == "Muon" else share)
        if key.startswith("localisation."):
            assert owner == ("AdamW" if kind == "adamw" else "SGD")
            expected = 0.2 * 0.1 * added_share
        assert lr == pytest.approx(expected), key


def test_a_backbone_without_filters_has_sgd_alone():
    """Such a run is refused when it is planned; here nothing may be left out."""
    network = build("cnn@fcn")
    found = owners(network, optimiser_of(network, "muon"))
    assert found.keys() == dict(network.named_parameters()).keys()
    assert {kind for kind, _, _ in found.values()} == {"SGD"}


@pytest.mark.parametrize(
    ("momentum", "nesterov", "expected"), [(0.7, True, True), (0.7, False, False), (0.0, True, False)]
)
def test_momentum_and_nesterov_of_the_protocol_are_those_of_sgd(momentum, nesterov, expected):
    muon, sgd = optimiser_of(build("cnn"), "muon", momentum=momentum, nesterov=nesterov).parts
    assert isinstance(muon, Muon)
    assert {group["momentum"] for group in muon.param_groups} == {MUON_MOMENTUM}
    assert {(group["momentum"], group["nesterov"]) for group in sgd.param_groups} == {(momentum, expected)}


def test_rates_are_shares_of_their_peaks():
    optimiser = optimiser_of(build("stn_affine@cnn4"), "muon", {"localisation": 0.1})
    peaks = [group["lr"] for group in optimiser.groups]
    assert len(set(peaks)) == 3  # of Muon, of SGD, and of SGD for the transformer
    for share in (0.5, 0.1, 1.0):
        optimiser.step(share)
        assert [group["lr"] for group in optimiser.groups] == pytest.approx([share * peak for peak in peaks])


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_nothing_moves_once_training_has_diverged(kind):
    network = build("cnn")
    optimiser = optimiser_of(network, kind)
    for value, diverged in ((1.0, False), (float("nan"), True)):
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, value)
        before = {key: tensor.detach().clone() for key, tensor in network.named_parameters()}
        momenta = {key: tensor.clone() for key, tensor in optimiser.momenta(network).items()}
        optimiser.step(1.0, torch.tensor(diverged))
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.named_parameters())
    after = optimiser.momenta(network)
    assert len(momenta) == len(after) > 0
    assert all(torch.equal(after[key], momenta[key]) for key in momenta)


@pytest.mark.parametrize("kind", ["muon", "sgd", "adamw"])
def test_another_optimiser_goes_on_with_them(kind):
    """Two steps on one side, a step and then another on a copy that was handed the momenta."""
    one, other = build("stn_affine"), build("stn_affine")
    first, second = optimiser_of(one, kind), optimiser_of(other, kind)
    assert first.momenta(one) == {}
    torch.manual_seed(1)
    slopes = [[torch.randn_like(parameter) for parameter in one.parameters()] for _ in range(2)]

    def step(network: Network, optimiser: Optimiser, number: int) -> None:
        optimiser.zero_grad()
        assert all(parameter.grad is None for parameter in network.parameters() if parameter.requires_grad)
        for parameter, slope in zip(network.parameters(), slopes[number], strict=True):
            parameter.grad = slope.clone()
        optimiser.step(0.5)

    step(one, first, 0)
    other.load_state_dict(one.state_dict())
    handed_on = {key: tensor.clone() for key, tensor in first.momenta(one).items()}
    trained = {key for key, value in one.named_parameters() if value.requires_grad}
    kept = [f"{key}:{what}" for key in trained for what in OF_ADAMW] if kind == "adamw" else trained
    assert handed_on.keys() == first.known_momenta(one).keys() == set(kept)
    second.take_momenta(other, handed_on)
    step(one, first, 1)
    step(other, second, 1)
    theirs = dict(other.named_parameters())
    assert all(torch.equal(value, theirs[key]) for key, value in one.named_parameters())


def test_adamw_takes_the_steps_of_its_formula():
    """In numpy, for one weight and one bias: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2."""
    network = torch.nn.Module()
    network.backbone = torch.nn.Linear(1, 1)
    start = {key: value.item() for key, value in network.named_parameters()}
    optimiser = Optimiser(network, Protocol(optimiser="adamw"), OPTIM, {})
    slopes = [0.5, -2.0, 0.1]
    for slope in slopes:
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, slope)
        optimiser.step(0.5)
    for key, value in network.named_parameters():
        expected, mean, square = start[key], 0.0, 0.0
        for number, slope in enumerate(slopes, start=1):
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
            expected -= 0.1 * (0.01 if value.ndim > 1 else 0.0) * expected
            corrected = mean / (1 - 0.9**number), square / (1 - 0.999**number)
            expected -= 0.1 * corrected[0] / (corrected[1] ** 0.5 + 1e-8)
        assert value.item() == pytest.approx(expected, abs=1e-5), key
