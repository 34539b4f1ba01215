"""What only a GPU can show: training, bf16, determinism, packing, running out of memory. `make gpu-check` runs it."""

import dataclasses
import gc
import json
import math
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from baselines.policies import POLICIES
from experiments.images.corruptions import CORRUPTIONS
from experiments.images.draws import permutation, uniform
from experiments.images.poses import POSES, no_pose, put_in_pose
from experiments.machine.device import find_device, measured_precision, prepare_device
from experiments.networks.network import Network
from experiments.networks.variants import assemble
from experiments.runs.evaluation import evaluate
from experiments.runs.images import DeviceImages, channel_statistics
from experiments.runs.robustness import corrupting, measure_robustness, num_evaluations
from experiments.runs.run import Job, make_run
from experiments.runs.training import Row, augment
from experiments.sweep.executors.local import LocalExecutor
from ledger.config import Optim, Protocol, RunConfig
from ledger.ledger import Ledger
from tests.support.networks import NETWORKS, build, easy_images, policy_of, train_on
from tests.support.trained_runs import job_on_sprites

Precision = Literal["fp32", "bf16"]

pytestmark = pytest.mark.gpu

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
VARIANTS = (
    "cnn+flip_crop",
    "stn_affine+affine",
    "stn_affine@lenet+rotate",
    "cnn@resnet18",
    "stn_rotation:steps=2:consistency=1:prior=0.3:start_sd=0.02",
    "stn_tps:gradient=linearised:anti_alias=true:localisation=deep",
)
PROTOCOL = Protocol(
    train_images=600, val_images=200, test_images=200, epochs=2, batch_size=64, precision="fp32", device="cuda",
    robustness_images=50,
)  # fmt: skip

every_precision = pytest.mark.parametrize("precision", ["fp32", "bf16"])


@pytest.fixture(autouse=True)
def as_a_worker():
    """With the settings that workers have."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    torch.manual_seed(0)
    prepare_device(CUDA)
    yield
    cudnn.benchmark, cudnn.deterministic = before


def job(cache: Path, ledger: Path, variant: str, *, seed: int = 1, protocol: Protocol = PROTOCOL) -> Job:
    """A final run."""
    run = RunConfig(variant=variant, seed=seed, pose="R", protocol=protocol, optim=Optim(lr=0.05))
    return job_on_sprites(run, cache, ledger)


def on_gpu(name: str, images: DeviceImages) -> Network:
    """As it starts, with the statistics of images that are there."""
    network = assemble(RunConfig(variant=name), 10, *channel_statistics(images))
    return network.to(CUDA, memory_format=torch.channels_last)  # type: ignore[call-overload]


def trained(name: str, precision: Precision, epochs: int = 6) -> tuple[str, Network, list[Row]]:
    """Status, network and history of a run on 200 easy images."""
    images = easy_images(200, CUDA)
    protocol = dataclasses.replace(PROTOCOL, epochs=epochs, batch_size=20, precision=precision, label_smoothing=0.0)
    return train_on(images, name, protocol, network=on_gpu(name, images))


def test_draws_are_the_same_bits():
    index_N = torch.cat([torch.arange(10_000), torch.tensor([2**31, 2**32 + 5, 2**40])])
    for seed, epoch in ((0, 1), (2**31 - 1, 500)):
        draws = [
            uniform(index_N.to(device), 6, seed=seed, epoch=epoch, purpose="augment").cpu() for device in (CPU, CUDA)
        ]
        assert torch.equal(*draws)
        orders = [
            permutation(index_N.to(device), seed=seed, epoch=epoch, purpose="order").cpu() for device in (CPU, CUDA)
        ]
        assert torch.equal(*orders)


@pytest.mark.parametrize("policy_name", list(POLICIES))
def test_augmented_images_are_close(policy_name):
    policy = policy_of(f"cnn+{policy_name}")
    x_BCHW = torch.rand(64, 3, 32, 32)
    u_BK = uniform(torch.arange(64), policy.num_draws, seed=0, epoch=1, purpose="augment")
    here, there = (augment(x_BCHW.to(device), policy, u_BK.to(device)).cpu() for device in (CPU, CUDA))
    torch.testing.assert_close(there, here, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pose", list(POSES))
def test_poses_are_close(pose):
    """Equal but for values that lie between two whole numbers, which either device may round its way."""
    pixels = torch.randint(0, 256, (100, 32, 32, 3), dtype=torch.uint8)
    here, there = (
        put_in_pose(pixels.to(device), torch.arange(100, device=device), pose, part="train")[0].cpu().int()
        for device in (CPU, CUDA)
    )
    assert (here - there).abs().max() <= 1
    assert (here != there).float().mean() < 0.01


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_corrupted_images_are_close(name):
    """But for the few values that lie next to a step of what counts or rounds."""
    images, corruption = easy_images(40, CPU), CORRUPTIONS[name]
    for severity in (1, 5):
        here, there = (
            corrupting(corruption, corruption.draw(name, place_B, torch.Size((3, 32, 32))), severity)(
                images.raw(torch.arange(40)).to(device), no_pose(40, device)
            )[0].cpu()
            for device in (CPU, CUDA)
            for place_B in [torch.arange(40, device=device)]
        )
        assert ((here - there).abs() > 1e-3).float().mean() < (0.05 if name == "jpeg_compression" else 1e-3)


def test_channel_statistics_are_the_same_bits():
    for ours, theirs in zip(*(channel_statistics(easy_images(500, d)) for d in (CPU, CUDA)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NETWORKS)
def test_untrained_networks_are_close(name):
    """As close as the 10 bits of TensorFloat-32 allow, in which cuDNN convolves."""
    network = build(name).eval()
    (_, batch), (_, batch_there) = (
        next(easy_images(20, device).batches(network.num_draws, size=20)) for device in (CPU, CUDA)
    )
    with torch.inference_mode():
        here = network(batch)
        there = network.to(CUDA, memory_format=torch.channels_last)(batch_there)  # type: ignore[call-overload]
    assert there.device == CUDA
    assert (there.cpu() - here).abs().max() <= 0.03 * here.abs().max()


@every_precision
@pytest.mark.parametrize(("name", "epochs"), [("cnn", 6), ("stn_affine", 6), ("stn_affine@lenet", 20)])
def test_200_images_can_be_learnt(name, epochs, precision):
    status, network, rows = trained(name, precision, epochs)
    assert status == "completed"
    assert all(value is None or math.isfinite(value) for row in rows for value in row.values())
    assert all(p.isfinite().all() for p in network.parameters())
    assert all(p.device == CUDA and p.dtype == torch.float32 for p in network.parameters())
    assert evaluate(network, easy_images(200, CUDA), precision).accuracy > 0.9


@every_precision
@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_run_gives_the_same_bits(name, precision):
    (_, first, first_rows), (_, again, again_rows) = (trained(name, precision, epochs=2) for _ in range(2))
    assert first_rows == again_rows
    ours, theirs = first.state_dict(), again.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["cnn", "stn_affine@lenet"])
def test_a_loss_that_is_no_number_stops_the_run_before_a_step(name):
    images = easy_images(40, CUDA)
    network = on_gpu(name, images)
    network.offset_1C11.fill_(math.nan)
    before: dict[str, Tensor] = {key: p.detach().clone() for key, p in network.named_parameters()}
    assert train_on(images, name, PROTOCOL, network=network)[0] == "diverged"
    assert all(torch.equal(p, before[key]) for key, p in network.named_parameters())


@pytest.mark.parametrize("name", ["cnn", "stn_affine"])
def test_a_point_costs_at_most_a_few_times_a_test_pass(name):
    """Image for image, on as many as fill a GPU."""
    images = easy_images(2000, CUDA)
    network = on_gpu(name, images)
    protocol = dataclasses.replace(PROTOCOL, robustness_images=0)
    measure_robustness(network, images, dataclasses.replace(protocol, robustness_images=256))
    seconds = []
    for ask in (
        lambda: [evaluate(network, images, "fp32") for _ in range(10)],
        lambda: measure_robustness(network, images, protocol),
    ):
        torch.cuda.synchronize()
        start = time.perf_counter()
        ask()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    assert seconds[1] / num_evaluations(protocol, 2000) < 5 * seconds[0] / (10 * 2000)


def test_the_device_is_found_and_prepared(tmp_path):
    assert find_device("auto") == "cuda"
    prepare_device(torch.device("cuda"))  # as a single run names it
    assert torch.backends.cudnn.deterministic
    assert measured_precision(torch.device("cuda"), tmp_path) in ("fp32", "bf16")


@every_precision
def test_a_run_made_twice_is_the_same_but_for_its_cost(cache, tmp_path, precision):
    protocol = dataclasses.replace(PROTOCOL, precision=precision)
    folders = []
    for name in ("first", "again"):
        made = job(cache, tmp_path / name, "stn_affine+affine", protocol=protocol)
        folders.append(Ledger(tmp_path / name).folder(make_run(made, CUDA)))
    files = ("run.json", "history.json", "weights.safetensors", "transformer.png")
    for file in (*files, "predictions.safetensors", "robustness.json", "maps.safetensors"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes(), file
    record = json.loads((folders[0] / "run.json").read_text())
    assert record["status"] == "completed"
    assert 0 <= record["result"]["test_accuracy"] <= 1
    cost = json.loads((folders[0] / "cost.json").read_text())
    assert cost["device"] == "cuda"
    assert cost["device_name"] == torch.cuda.get_device_name(CUDA)
    assert cost["peak_memory_mib"] > 1
    assert cost["images_per_s"] > 0


def test_two_workers_share_a_gpu(cache, tmp_path):
    """And make the runs that one process makes."""
    jobs = [job(cache, tmp_path / "packed", name, seed=seed) for name in VARIANTS[:2] for seed in (1, 2)]
    with LocalExecutor("cuda", 2) as executor:
        futures = [executor.submit(each) for each in jobs]
        wait(futures)
        assert [future.result() for future in futures] == [each.key for each in jobs]
    packed = Ledger(tmp_path / "packed")
    for each in jobs:
        assert packed.read(each.key)["status"] == "completed", packed.read(each.key)["error"]
    alone = dataclasses.replace(jobs[0], ledger=tmp_path / "alone")
    folder = Ledger(alone.ledger).folder(make_run(alone, CUDA))
    assert (packed.folder(alone.key) / "run.json").read_bytes() == (folder / "run.json").read_bytes()


def test_running_out_of_memory_is_a_result_and_no_end(cache, tmp_path):
    ledger = Ledger(tmp_path)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.0, CUDA)  # nothing more than what is held already
    try:
        key = make_run(job(cache, tmp_path, "cnn@resnet18"), CUDA)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CUDA)
    assert ledger.read(key)["status"] == "failed"
    assert ledger.read(key)["error"] == "out of memory on cuda"
    assert ledger.read(key)["result"]["test_accuracy"] is None
    assert ledger.read(make_run(job(cache, tmp_path, "cnn", seed=2), CUDA))["status"] == "completed"
