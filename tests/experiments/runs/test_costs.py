"""What runs cost and where they run: FLOPs by hand, memory that was really used, devices that are really there."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from baselines.backbones import BACKBONES, Backbone
from experiments.images.tasks import load_task
from experiments.machine import device as devices
from experiments.machine.device import autocast, find_device, measured_precision, resolve, train_rate
from experiments.networks.network import Network, Site
from experiments.runs.costs import PeakMemory, count_train_flops, environment, prediction_costs
from experiments.runs.run import Job, Source, failed_run_files
from ledger.config import Protocol, RunConfig
from ledger.errors import UserError
from tests.support.networks import build

CPU = torch.device("cpu")


def test_a_small_network_is_counted_as_by_hand():
    backbone = Backbone(
        [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3)],
        nn.Sequential(nn.Flatten(), nn.Linear(5 * 14 * 14, 10)),
    )
    network = Network(Site(lambda *_: backbone, 16, 10, torch.zeros(3), torch.ones(3)), backbone)
    first = 2 * (3 * 3 * 3) * 4 * 16 * 16
    second = 2 * (3 * 3 * 4) * 5 * 14 * 14
    dense = 2 * (5 * 14 * 14) * 10
    # Backwards, a layer costs its forward pass once for its weights and once for its input; images need none.
    assert count_train_flops(network, 16) == 2 * first + 3 * second + 3 * dense


def test_the_transformer_adds_its_localisation_net():
    conv1, conv2 = 2 * 7 * 7 * 3 * 8 * 26 * 26, 2 * 5 * 5 * 8 * 10 * 9 * 9
    dense = 2 * 160 * 32 + 2 * 32 * 6
    plain, transformed = (count_train_flops(build(name), 32) for name in ("cnn@lenet", "stn_affine@lenet"))
    first_layer = 2 * 5 * 5 * 3 * 10 * 28 * 28  # of the backbone, whose input now needs a gradient
    # Where the pixels are looked for is no matrix product: it belongs to sampling, which is left out.
    assert transformed - plain == 2 * conv1 + 3 * (conv2 + dense) + first_layer


def test_steps_heads_and_guidance_cost_what_they_look_at():
    names = ("stn_affine", "stn_affine:steps=2", "stn_affine:steps=3", "stn_rotation", "stn_rotation:consistency=1")
    once, twice, thrice, alone, guided = (count_train_flops(build(name), 32) for name in names)
    assert thrice - twice == pytest.approx(twice - once, rel=0.01)
    localisation = 2 * 7 * 7 * 3 * 8 * 26 * 26
    assert twice - once > localisation
    assert guided - alone > localisation


def test_what_changes_with_training_s_progress_is_counted_in_its_middle():
    names = [f"realign:localisation=lenet:classes=0:bins=36:blur_px=0:rounds={rounds}@lenet" for rounds in (2, 4)]
    two, four = (count_train_flops(build(name), 32) for name in names)
    # Then two rounds of four are behind it, and one of two; their maps are composed, which is next to nothing.
    assert four - two == pytest.approx(SCORED + 2 * 32 * (36 - 1), rel=1e-4)


FIRST, SECOND = 2 * 5 * 5 * 3 * 10 * 28 * 28, 2 * 5 * 5 * 10 * 20 * 10 * 10
LENET = FIRST + SECOND + 2 * 500 * 50 + 2 * 50 * 10
"""One image through the backbone `lenet`: its convolutions, and its dense layers."""
SCORED = 2 * 7 * 7 * 3 * 8 * 26 * 26 + 2 * 5 * 5 * 8 * 10 * 9 * 9 + 2 * 160 * 32 + 2 * 32 * 1
"""One image through the localisation network `lenet`, to one number."""


@pytest.mark.parametrize(
    ("name", "flops", "passes"),
    [
        ("cnn@lenet", LENET, 1),
        ("oracle_unwarp@lenet", LENET, 1),
        ("cnn_tta@lenet", 5 * LENET, 5),
        ("cnn_tta:num_turns=8:max_deg=180@lenet", 8 * LENET, 8),
        ("cnn_tta:num_turns=3:mirrored=true@lenet", 6 * LENET, 6),
        ("canonical:num_turns=9:max_deg=90:scorer=lenet@lenet", 9 * SCORED + LENET, 1),
        ("canonical:num_turns=8:scorer=lenet:choice=latent@lenet", 8 * (SCORED + LENET), 8),
        ("canonical:num_turns=8:scorer=lenet:choice=latent:tested=3@lenet", 8 * SCORED + 3 * LENET, 3),
        ("ti_pooling:num_turns=4@lenet", 4 * (FIRST + SECOND) + 2 * 500 * 50 + 2 * 50 * 10, 4),
    ],
)
def test_a_prediction_is_counted_with_all_that_looks_at_copies(name, flops, passes):
    network = build(name).train()
    assert prediction_costs(network, 32) == {"predict_flops": flops, "predict_passes": passes}
    assert network.training


def test_a_localisation_network_that_shares_all_stages_is_another_pass():
    shared = [prediction_costs(build(f"stn_affine:place=shared:stage={n}@lenet"), 32) for n in (1, 2)]
    assert [costs["predict_passes"] for costs in shared] == [1, 2]
    assert shared[0]["predict_flops"] > LENET + FIRST and shared[1]["predict_flops"] > LENET + FIRST + SECOND


def test_a_prediction_of_a_small_network_is_its_forward_pass():
    backbone = Backbone([], nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10)))
    network = Network(Site(lambda *_: backbone, 8, 10, torch.zeros(3), torch.ones(3)), backbone)
    assert prediction_costs(network, 8) == {"predict_flops": 2 * (3 * 8 * 8) * 10, "predict_passes": 1}


@pytest.mark.parametrize("name", ["cnn", "stn_affine@lenet", "stn_affine:place=shared", "stn_random"])
def test_counting_leaves_no_trace(name):
    network = build(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    assert count_train_flops(network, 32) == count_train_flops(network, 32) > 0
    assert prediction_costs(network, 32) == prediction_costs(network, 32)
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_peak_memory_sees_what_was_used_and_forgets_it_for_the_next_run():
    first = PeakMemory(CPU)
    before = first.mib()
    used = torch.ones(300 * 2**18)  # 300 MiB
    assert first.mib() > before + 250
    del used
    if Path("/proc/self/clear_refs").exists():
        assert PeakMemory(CPU).mib() < before + 150


def test_the_environment_is_what_cost_json_holds():
    about = environment(CPU)
    assert json.loads(json.dumps(about)) == about
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", about["started"])
    assert about["device"] == "cpu"
    assert about["device_name"]
    assert about["threads"] == torch.get_num_threads()
    assert about["versions"]["torch"] == torch.__version__.split("+")[0]


def test_of_libraries_that_are_not_installed_there_is_no_version(monkeypatch):
    """A run needs torch and numpy only."""
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("optuna", "torchvision", "wandb"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert list(environment(CPU)["versions"]) == ["python", "torch", "numpy"]


def test_a_run_says_which_version_of_a_library_its_network_is_of(monkeypatch, tmp_path):
    known = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0.20" if name == "timm" else known(name))
    monkeypatch.setattr("experiments.networks.weights.known_networks", lambda: ("resnet18",))
    monkeypatch.setattr("experiments.runs.run.code_of", lambda run, cache: {})
    task = load_task("sprites", image_px=32, cache=tmp_path, say=lambda line: None)
    source = Source("sprites", "", 32, tmp_path)
    for variant, version in (("cnn@timm:resnet18", "1.0.20"), ("cnn", None)):
        job = Job(RunConfig(variant=variant, protocol=Protocol(device="cpu")), "0" * 16, source, tmp_path)
        cost = json.loads(failed_run_files(job, task, "killed")["cost.json"])
        assert cost["versions"].get("timm") == version


@pytest.mark.parametrize(("cuda", "mps", "found"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_what_there_is(cuda, mps, found, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert find_device("auto") == found
    assert find_device("cpu") == "cpu"
    if not cuda:
        there = "mps, cpu" if mps else "cpu"
        with pytest.raises(UserError, match=f"^device: 'cuda' is not available on this machine; available: {there}$"):
            find_device("cuda")


def test_autocast_is_bf16_only_where_it_is_asked_for():
    a = torch.rand(4, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert (a @ a).dtype == dtype


def test_the_training_rate_is_measured(monkeypatch):
    build_cnn = BACKBONES["cnn"]
    batches = []

    def watched(**options: object) -> nn.Module:
        network = build_cnn(**options)  # type: ignore[arg-type]
        network.register_forward_hook(lambda module, args, output: batches.append(len(args[0])))
        return network

    monkeypatch.setitem(BACKBONES._entries, "cnn", watched)
    assert train_rate(CPU, "fp32", seconds=0.01, batch_size=4) > 0
    assert len(batches) >= 4  # one to warm up, and at least three that count
    assert set(batches) == {4}


@pytest.mark.parametrize(("bf16", "choice"), [(2.0, "bf16"), (1.05, "fp32"), (0.5, "fp32")])
def test_precision_is_measured_once_on_a_machine(bf16, choice, tmp_path, monkeypatch):
    calls = []

    def rate(device: torch.device, precision: str) -> float:
        assert torch.get_num_threads() == 1
        calls.append(precision)
        return {"fp32": 1.0, "bf16": bf16}[precision]

    monkeypatch.setattr(devices, "train_rate", rate)
    num_threads = torch.get_num_threads()
    assert measured_precision(CPU, tmp_path / "new" / "cache") == choice
    assert measured_precision(CPU, tmp_path / "new" / "cache") == choice
    assert calls == ["fp32", "bf16"]
    assert torch.get_num_threads() == num_threads
    resolved = resolve(Protocol(device="cpu"), tmp_path / "new" / "cache")
    assert (resolved.device, resolved.precision) == ("cpu", choice)
    assert calls == ["fp32", "bf16"]


def test_a_torn_memory_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "train_rate", lambda device, precision: 1.0)
    (tmp_path / "precision.json").write_text('{"Some CPU')
    assert measured_precision(CPU, tmp_path) == "fp32"
    assert "fp32" in json.loads((tmp_path / "precision.json").read_text()).values()


def test_a_cache_that_cannot_be_written_is_the_user_s_to_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "train_rate", lambda device, precision: 1.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the cache cannot be written"):
        measured_precision(CPU, tmp_path / "file" / "cache")


def test_what_is_named_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "train_rate", None)
    protocol = Protocol(device="cpu", precision="fp32")
    assert resolve(protocol, tmp_path) == protocol
