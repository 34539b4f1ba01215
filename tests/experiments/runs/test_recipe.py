"""What makes up the default recipe: in a run, and with each part taken away."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from baselines.whitening import Whitening
from experiments.networks.models.cnn_recipe import CnnRecipe
from experiments.networks.network import Network
from experiments.networks.variants import parse_variant
from experiments.runs import run as runs
from experiments.runs import training
from experiments.runs.averaging import Averages
from experiments.runs.images import DeviceImages
from experiments.runs.optimiser import Optimiser
from experiments.runs.run import make_run
from experiments.runs.training import train
from experiments.study.arms import network_of
from ledger.config import Optim, Protocol
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.baselines.test_whitening import fitted
from tests.support.networks import build, same, some_batch, some_images, train_on
from tests.support.stopped_runs import CPU, files_of, job_of

PARTS = ("whitening", "identity_start", "muon", "averaging")
PROTOCOL = Protocol(epochs=3, batch_size=16, optimiser="muon", averaging=True, precision="fp32", device="cpu")


def without(part: str) -> str:
    return f"cnn_recipe:{part}=false"


def trained(name: str, protocol: Protocol = PROTOCOL) -> dict[str, Tensor]:
    network, images = build(name), some_images()
    network.whiten(images.raw(torch.arange(40)))
    assert train_on(images, name, protocol, network=network, lr=0.05)[0] == "completed"
    return dict(network.state_dict())


def convolutions(network: Network) -> dict[str, nn.Conv2d]:
    """All but the first, which whitens."""
    found = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    return {name: layer for name, layer in found.items() if not isinstance(layer, Whitening)}


def test_with_all_of_them_it_is_the_plain_backbone_bit_for_bit():
    assert same(trained("cnn_recipe"), trained("cnn"))
    assert str(parse_variant("cnn_recipe:whitening=true:muon=true")) == "cnn_recipe"


def test_each_part_makes_a_difference():
    ends = [trained(name) for name in ("cnn_recipe", *map(without, PARTS))]
    assert not any(same(one, other) for i, one in enumerate(ends) for other in ends[:i])


def test_without_whitening_the_first_layer_starts_at_random_and_is_trained():
    network, plain = build(without("whitening")), build("cnn")
    start = {key: value.clone() for key, value in network.state_dict().items()}
    assert same(start, dict(plain.state_dict()))  # until it is whitened
    network.whiten(some_batch("cnn", 30).raw_BCHW)
    assert same(start, dict(network.state_dict()))
    frozen, all_but_one = (
        {key for key, value in each.named_parameters() if not value.requires_grad} for each in (plain, network)
    )
    first = "backbone.stages.0.0.weight"
    assert frozen - all_but_one == {first} and not all_but_one - frozen
    end = trained(without("whitening"))
    assert not torch.equal(end[first], start[first])
    # Muon has it, as all filters.
    muon = Optimiser(network, PROTOCOL, Optim(), {}).parts[0]
    owned = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    assert id(dict(network.named_parameters())[first]) in owned


def test_without_its_identity_start_the_other_convolutions_start_at_random():
    network, plain = build(without("identity_start")), build("cnn")
    for (name, layer), (_, copying) in zip(convolutions(network).items(), convolutions(plain).items(), strict=True):
        assert layer.weight.count_nonzero() == layer.weight.numel(), name
        bound = (9 * layer.in_channels) ** -0.5  # of torch's own start
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert not torch.equal(layer.weight, copying.weight)
    ours, theirs = dict(network.state_dict()), dict(plain.state_dict())
    others = [key for key in ours if key.removesuffix(".weight") not in convolutions(network)]
    assert all(torch.equal(ours[key], theirs[key]) for key in others)


def test_the_start_without_it_is_decided_by_the_seed():
    name = without("identity_start")
    assert same(dict(build(name).state_dict()), dict(build(name).state_dict()))
    assert not same(dict(build(name).state_dict()), dict(build(name, seed=1).state_dict()))


@pytest.mark.parametrize(("part", "changes"), [("muon", {"optimiser": "sgd"}), ("averaging", {"averaging": False})])
def test_without_muon_or_averaging_it_trains_under_a_protocol_without_them(part, changes):
    protocol = dataclasses.replace(PROTOCOL, **changes)
    assert CnnRecipe(**{part: False}).train_under(PROTOCOL) == protocol
    assert same(trained(without(part)), trained("cnn", protocol))


def test_what_a_protocol_does_not_have_stays_away():
    plain = dataclasses.replace(PROTOCOL, optimiser="sgd", averaging=False)
    for part in PARTS:
        assert CnnRecipe(**{part: False}).train_under(plain) == plain
    assert CnnRecipe().train_under(plain) == plain


@pytest.mark.parametrize("part", ["whitening", "identity_start"])
def test_those_of_the_network_leave_the_protocol_alone(part):
    assert CnnRecipe(**{part: False}).train_under(PROTOCOL) == PROTOCOL


@pytest.mark.parametrize("backbone", ["cnn4", "lenet", "resnet18", "fcn", "p4cnn"])
def test_on_another_backbone_it_is_refused_in_one_line(backbone):
    with pytest.raises(UserError, match=r"^cnn_recipe@[a-z0-9]+ on images of 32 px: cnn_recipe takes [^\n]+$"):
        build(f"cnn_recipe@{backbone}")


@pytest.mark.parametrize("width", [0.01, 0.3, 1.0, 7.5])
def test_networks_are_as_wide_as_the_protocol_says(width):
    for name in ("cnn", "cnn@cnn:width=2", "stn_affine@cnn4"):
        network = network_of(name, Protocol(width=width), 32, 10, {})
        own = 2.0 if "width" in name else 1.0
        first, wide = (32, 128) if "cnn4" in name else (16, 64)
        assert network.backbone.head[-1].in_features == max(1, round(wide * width * own))  # type: ignore[index]
        stage = network.backbone.stages[0]
        layer = stage[0] if "cnn4" in name else stage[2][0]  # type: ignore[index]
        assert layer.out_channels == max(1, round(first * width * own))


def test_muon_is_refused_without_filters_and_sgd_is_not():
    for name in ("cnn@fcn", "stn_affine@fcn"):  # the localisation network's filters do not count
        network_of(name, Protocol(optimiser="sgd"), 32, 10, {})
        with pytest.raises(
            UserError, match=rf"^protocol\.optimiser: muon [^\n]+ of {name} has none; [^\n]+sgd or adamw$"
        ):
            network_of(name, Protocol(optimiser="muon"), 32, 10, {})


def run_of(cache: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Any, ...]:
    """The job, the images that it was trained on, and its first layer as training found it and left it."""
    seen: list[DeviceImages] = []
    starts: list[Tensor] = []

    def watched(network: Network, policy: Any, images: DeviceImages, *others: Any) -> str:
        seen.append(images)
        starts.append(network.backbone.stages[0].get_parameter("0.weight").clone())
        return train(network, policy, images, *others)

    monkeypatch.setattr(runs, "train", watched)
    job = job_of(cache, ledger, **changes)
    make_run(job, CPU)
    (images,), (start,) = seen, starts
    weights = safetensors.torch.load_file(Ledger(job.ledger).folder(job.key) / "weights.safetensors")
    return job, images, start, weights["backbone.stages.0.0.weight"]


@pytest.mark.parametrize("pose", ["upright", "R"])
def test_a_run_is_whitened_by_its_own_training_images_as_posed(pose, cache, tmp_path, monkeypatch):
    _, images, start, end = run_of(cache, tmp_path, monkeypatch, pose=pose)
    assert len(images) == 48
    pixels = images.pixels_NHWC.permute(0, 3, 1, 2).double().numpy() / 255
    mean, std = (
        np.array([part(pixels[:, channel]) for channel in range(3)])[:, None, None] for part in (np.mean, np.std)
    )
    expected = fitted(torch.from_numpy((pixels - mean) / std).float()).weight
    torch.testing.assert_close(start, expected, atol=1e-2, rtol=1e-2)
    assert torch.equal(start, end)


def test_poses_and_seeds_whiten_differently(cache, tmp_path, monkeypatch):
    settings: list[dict[str, Any]] = [{"pose": "R"}, {"pose": "upright"}, {"seed": 2}]
    filters = [
        run_of(cache, tmp_path / str(number), monkeypatch, **changes)[2] for number, changes in enumerate(settings)
    ]
    assert not any(torch.equal(one, other) for i, one in enumerate(filters) for other in filters[:i])


@pytest.mark.parametrize("variant", ["cnn", "stn_affine:heads=2+flip_crop"])
def test_a_run_is_the_same_bit_for_bit_when_it_is_made_again(variant, cache, tmp_path):
    protocol = {"optimiser": "muon", "averaging": True}
    first, again = (job_of(cache, tmp_path / name, variant=variant, protocol=protocol) for name in ("one", "two"))
    make_run(first, CPU)
    torch.manual_seed(99)
    make_run(again, CPU)
    assert files_of(first) == files_of(again)


def test_what_is_averaged_goes_into_the_file_of_weights(cache, tmp_path, monkeypatch):
    """Of a run whose last step is one of those after which weights are averaged."""
    kept: list[Averages] = []

    class Kept(Averages):
        def __init__(self, network: nn.Module) -> None:
            super().__init__(network)
            kept.append(self)

    monkeypatch.setattr(training, "Averages", Kept)
    job = job_of(cache, tmp_path, protocol={"averaging": True, "epochs": 5})  # of three steps each
    make_run(job, CPU)
    weights = safetensors.torch.load_file(Ledger(job.ledger).folder(job.key) / "weights.safetensors")
    (averages,) = kept
    assert averages.of_network.keys() <= weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in averages.of_network.items())
