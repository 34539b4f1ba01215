"""Variants on networks of timm: one spelling, whose weights are called by what is in them; and what is refused."""

import hashlib
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from baselines.backbones import timm_network
from experiments.networks.network import Batch
from experiments.networks.variants import assemble, check_start, parse_variant
from experiments.runs.optimiser import Optimiser
from experiments.study.arms import network_of
from ledger.config import Optim, Protocol, RunConfig, run_key
from ledger.errors import UserError

PX = 64


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STN_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    timm, file = pytest.importorskip("timm"), tmp_path / "resnet.pth"
    torch.manual_seed(4)
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    return file


def test_weights_are_called_by_their_content_wherever_they_lie(weights, tmp_path):
    text = str(parse_variant(f"stn_affine@timm:test_resnet:frozen=false:weights={weights}:lr_decay=0.80+flip_crop"))
    digest = text.partition("weights=")[2][:16]
    assert text == f"stn_affine@timm:test_resnet:weights={digest}:lr_decay=0.8+flip_crop"
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(weights, tmp_path / "elsewhere/renamed.pth")
    assert str(parse_variant(text.replace(digest, str(moved)))) == text == str(parse_variant(text))
    state = torch.load(moved, weights_only=True)
    state["conv1.0.weight"][0, 0, 0, 0] += 1
    torch.save(state, moved)
    other = str(parse_variant(text.replace(digest, str(moved))))
    assert other != text
    assert len({run_key(RunConfig(variant=name), "images") for name in (text, other)}) == 2


def test_a_network_starts_from_the_copy_and_sees_what_its_weights_want(weights, own_cache):
    name = str(parse_variant(f"cnn@timm:test_resnet:weights={weights}"))
    state = torch.load(weights, weights_only=True)
    weights.unlink()
    network = assemble(
        RunConfig(variant=name, protocol=Protocol(image_px=PX)), 7, torch.full((3,), 0.1), torch.full((3,), 0.2)
    )
    first = next(iter(network.backbone.parameters()))
    assert torch.equal(first, state["conv1.0.weight"])
    raw_BCHW = torch.rand(2, 3, PX, PX)
    torch.testing.assert_close(network.normalise(raw_BCHW), (raw_BCHW - 0.5) / 0.5)  # timm's for test_resnet
    assert network(Batch.of(raw_BCHW)).shape == (2, 7)
    check_start(["cnn", name])
    (copy,) = (own_cache / "weights").iterdir()
    copy.write_bytes(copy.read_bytes()[:-1])
    for remedy in ("has been damaged; delete it", "no file with the hash"):
        with pytest.raises(UserError, match=remedy):
            check_start([name])
        copy.unlink(missing_ok=True)


def test_random_weights_see_what_the_training_images_want():
    pytest.importorskip("timm")
    run = RunConfig(variant="cnn@timm:test_resnet", protocol=Protocol(image_px=PX))
    raw_BCHW = torch.rand(2, 3, PX, PX)
    network = assemble(run, 7, torch.full((3,), 0.1), torch.full((3,), 0.2))
    torch.testing.assert_close(network.normalise(raw_BCHW), (raw_BCHW - 0.1) / 0.2)


def test_layers_have_rates_of_their_own_in_each_optimiser(weights):
    name = f"stn_affine@timm:test_resnet:weights={weights}:lr_decay=0.5"
    network = network_of(name, Protocol(), PX, 7, {}, device="cpu")
    for kind in ("muon", "sgd", "adamw"):
        optimiser = Optimiser(network, Protocol(optimiser=kind), Optim(lr=0.1), {"localisation": 0.1})
        rates = {id(parameter): group["lr"] for group in optimiser.groups for parameter in group["params"]}
        assert rates.keys() == {id(parameter) for parameter in network.parameters()}
        parts = {"head.1.weight": 1.0, "stages.4.0.conv1.weight": 0.5, "stages.3.0.conv1.weight": 0.25}
        last = rates[id(network.backbone.get_parameter("stages.4.0.conv1.weight"))] / 0.5
        for key, factor in parts.items():
            share = 0.25 if kind == "muon" and key.startswith("head") else 1.0
            assert rates[id(network.backbone.get_parameter(key))] == pytest.approx(last * factor * share), key


def test_it_is_planned_without_numbers(weights):
    state = torch.get_rng_state()
    for name in (f"cnn@timm:test_resnet:weights={weights}", "stn_affine:place=feature:stage=2@timm:test_resnet"):
        network = network_of(name, Protocol(optimiser="adamw"), PX, 7, {})
        assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(UserError, match=r"^protocol\.optimiser: muon trains filters"):
        network_of(f"cnn@timm:test_resnet:weights={weights}:frozen=true", Protocol(), PX, 7, {})


def test_a_file_of_weights_is_read_once_for_all_networks_of_a_plan(weights, monkeypatch):
    name = str(parse_variant(f"cnn@timm:test_resnet:weights={weights}"))
    read = Counter[str]()

    def counted(owner, function):
        was = getattr(owner, function)
        monkeypatch.setattr(owner, function, lambda *arguments: read.update([function]) or was(*arguments))

    counted(hashlib, "file_digest")
    counted(sys.modules["timm.models"], "load_state_dict")
    planned = [network_of(name, Protocol(optimiser="adamw"), PX, 7, {}) for _ in range(3)]
    assert read == {"file_digest": 1, "load_state_dict": 1}
    real = network_of(name, Protocol(optimiser="adamw"), PX, 7, {}, device="cpu")
    assert read == {"file_digest": 1, "load_state_dict": 2}
    shapes = [[(key, value.shape) for key, value in each.state_dict().items()] for each in (*planned, real)]
    assert all(each == shapes[-1] for each in shapes)


def test_weights_of_another_network_are_refused_by_their_hash_in_a_plan_too(weights):
    digest = str(parse_variant(f"cnn@timm:test_resnet:weights={weights}")).partition("weights=")[2]
    with pytest.raises(UserError, match="weights: the file's are not those of timm:test_vit "):
        network_of(f"cnn@timm:test_vit:weights={digest}", Protocol(optimiser="adamw"), 160, 7, {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn@timm", "timm: name one of its networks, as in timm:resnet18"),
        ("cnn@timm:", "timm: name one of its networks, as in timm:resnet18"),
        ("cnn@timm:weights=none", "timm: name one of its networks, as in timm:resnet18"),
        ("timm:resnet18", "timm has backbones: write cnn@timm:resnet18"),
        ("cnn@timm:resnet_18", "timm has no network 'resnet_18'; did you mean 'resnet18'?"),
        ("cnn@timm:resnet18.a9_in1k", "timm has no network 'resnet18.a9_in1k'; "),
        ("cnn@timm:resnet18:frosen=true", "frosen: timm has no such hyper-parameter; did you mean 'frozen'?"),
        ("cnn@timm:resnet18:width=2", "width: timm has no such hyper-parameter; "),
        ("cnn@timm:resnet18:lr_decay=0", "lr_decay: 0.0 is not above 0 and up to 1"),
        ("cnn@timm:resnet18:weights=cahe", "weights: 'cahe' is none of cache, none and a file that ends with "),
        ("cnn@timm:resnet18:weights=none.pth", "weights: 'none.pth' cannot be read (No such file or directory)"),
        ("cnn@timm:resnet18:weights=cache", "timm.create_model('resnet18', pretrained=True)\" fetches them"),
    ],
)
def test_what_there_is_not_is_said_in_one_line(name, message, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setattr("experiments.networks.weights.downloaded_weights", lambda network: None)
    with pytest.raises(UserError) as caught:
        parse_variant(name)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"variant: {name!r}: ") and "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused_and_not_kept(weights, own_cache):
    with pytest.raises(
        UserError, match=r"^variant: [^\n]+: weights: the file's are not those of timm:test_vit \([^\n]+$"
    ):
        parse_variant(f"cnn@timm:test_vit:weights={weights}")
    assert not (own_cache / "weights").exists()


def test_without_timm_it_is_said_how_to_install_it(monkeypatch):
    timm_network.known_networks.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        UserError, match=r"^variant: 'cnn@timm:resnet18': timm is not installed; pip install 'stn-bench\[timm\]'$"
    ):
        parse_variant("cnn@timm:resnet18")
    timm_network.known_networks.cache_clear()
