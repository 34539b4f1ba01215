"""Forward passes on CUDA tensors that do not exist: a tensor made on the wrong device fails here, without a GPU.

Fake tensors have a shape, a type and a device but no numbers. Backward passes do not work with them; `make gpu-check`
runs those where there is a GPU.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

from baselines.policies import POLICIES
from baselines.policies.photometric import MOVES, PAINTS, Strength
from experiments.images import resampling
from experiments.images.corruptions import CORRUPTIONS, SEVERITIES
from experiments.images.draws import permutation, uniform
from experiments.images.poses import POSES, disc_mask, posed_px, put_in_pose
from experiments.networks.network import Batch, Network
from experiments.runs.evaluation import BATCH_SIZE, evaluate
from experiments.runs.images import Anew, DeviceImages, split
from experiments.runs.robustness import Placement, Subjects, corrupting
from experiments.runs.training import augment
from ledger.config import Protocol
from stn import spline
from stn.affine import identity
from stn.maps import AffineMap
from stn.sampler import Sampler, base_grid, warp
from tests.support.networks import NETWORKS, build, policy_of

CUDA = torch.device("cuda", 0)


@contextmanager
def nothing_cached() -> Iterator[None]:
    """Tensors that were cached before are real, and those cached meanwhile are fake: both must go."""
    for cached in (base_grid, spline._solution, resampling._waves):
        cached.cache_clear()
    yield
    for cached in (base_grid, spline._solution, resampling._waves):
        cached.cache_clear()


@pytest.fixture
def mode() -> Iterator[FakeTensorMode]:
    """Under which all tensors are fake."""
    with nothing_cached(), FakeTensorMode() as mode:
        yield mode


def fake(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    fake_tensor = mode.from_tensor(tensor)
    with mode:
        return fake_tensor.to(CUDA)


def moved(network: Network, mode: FakeTensorMode) -> Network:
    """The network with parameters and buffers on the device, as Module.to does, which cannot handle fake ones."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(fake(parameter.detach(), mode))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fake(buffer, mode)
    return network


@contextmanager
def autocast_of_cuda(precision: str) -> Iterator[None]:
    """torch.autocast refuses without a GPU; what it would switch on works all the same."""
    dtype = torch.get_autocast_dtype("cuda")
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", precision == "bf16")
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", dtype)
        torch.clear_autocast_cache()


def check(result: Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> None:
    assert isinstance(result, FakeTensor)
    assert result.device == CUDA
    assert result.shape == shape
    assert result.dtype == dtype


def some_images(num: int) -> DeviceImages:
    pixels_NHWC = torch.zeros(num, 32, 32, 3, dtype=torch.uint8, device=CUDA)
    return DeviceImages(pixels_NHWC, torch.zeros(num, dtype=torch.int64, device=CUDA))


def test_a_tensor_on_the_wrong_device_is_caught():
    """The test of the test."""
    network, mode = build("cnn"), FakeTensorMode()
    del network._buffers["gain_1C11"]
    network.gain_1C11 = torch.ones(1, 3, 1, 1)  # no buffer any more, so it stays behind
    object.__setattr__(moved(network, mode), "gain_1C11", mode.from_tensor(network.gain_1C11))
    with mode, pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        network(Batch.of(torch.zeros(2, 3, 32, 32, device=CUDA)))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    mode = FakeTensorMode()
    network = moved(build(name), mode)
    with nothing_cached(), mode:
        _, batch = next(some_images(4).batches(network.num_draws, size=4))
        for training, precision in itertools.product((True, False), ("fp32", "bf16")):
            network.train(training)
            with autocast_of_cuda(precision):
                seen_BCHW, maps = network.look(batch), network.maps(batch)
                logits_BX, penalty = network.logits_and_penalty(batch)
            if seen_BCHW is not None:
                check(seen_BCHW, 4, 3, *([16, 16] if "size=0.5" in name else [32, 32]))
            for each in maps or ():
                check(each.apply(base_grid(3, 3, CUDA)), 4, 9, 2)
            assert isinstance(logits_BX, FakeTensor)
            assert (logits_BX.device, logits_BX.shape) == (CUDA, (4, 10))
            if penalty is not None:
                check(penalty)


@pytest.mark.parametrize("policy_name", list(POLICIES))
def test_policies(mode, policy_name):
    policy = policy_of(f"cnn+{policy_name}")
    index_B = torch.arange(5, device=CUDA)
    u_BK = uniform(index_B, policy.num_draws, seed=0, epoch=1, purpose="augment")
    for value in policy.draw(u_BK, 32).values():
        assert value.device == CUDA
        assert len(value) == 5
    try:
        x_BCHW = augment(torch.zeros(5, 3, 32, 32, device=CUDA), policy, u_BK)
    except DataDependentOutputException:
        assert policy_name in ("auto_augment", "rand_augment", "trivial_augment")  # which sort images by operation
        return
    check(x_BCHW, 5, 3, 32, 32)
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)


def test_operations_of_the_policies_that_need_numbers(mode):
    operation_B1, level_B1 = torch.ones(5, 1, dtype=torch.int64, device=CUDA), torch.zeros(5, 1, device=CUDA)
    magnitude_B1 = Strength(0.3, 10, 30, 0.9, 4).magnitudes(operation_B1, level_B1, level_B1 > 0)
    check(magnitude_B1, 5, 1)
    for move in MOVES.values():
        check(move(magnitude_B1[:, 0], 32), 5, 2, 3)
    for paint in PAINTS.values():
        check(paint(torch.zeros(5, 3, 32, 32, device=CUDA), magnitude_B1[:, 0]), 5, 3, 32, 32)


@pytest.mark.parametrize("num_draws", [0, 1, 4, 5])
def test_draws(mode, num_draws):
    check(uniform(torch.arange(9, device=CUDA), num_draws, seed=0, epoch=1, purpose="x"), 9, num_draws)


def test_permutations(mode):
    check(permutation(torch.arange(9, device=CUDA), seed=0, epoch=1, purpose="x"), 9, dtype=torch.int64)


@pytest.mark.parametrize("pose", list(POSES))
def test_poses(mode, pose):
    posed, poses = put_in_pose(some_images(6).pixels_NHWC, torch.arange(6, device=CUDA), pose, part="train")
    check(poses.theta_N33, 6, 3, 3)
    check(poses[torch.arange(2, device=CUDA)].from_upright().apply(base_grid(3, 3, CUDA)), 2, 9, 2)
    size_px = posed_px(pose, 32)
    check(posed, 6, size_px, size_px, 3, dtype=torch.uint8)
    check(disc_mask(poses, 32), 6, 32, 32, 1, dtype=torch.bool)


@pytest.mark.parametrize("pose", list(POSES))
def test_poses_that_are_drawn_anew(mode, pose):
    images = some_images(6)
    anew = Anew(pose, images.pixels_NHWC, identity(6, device=CUDA), torch.arange(6, device=CUDA))
    raw_BCHW, poses = replace(images, anew=anew).in_training(torch.arange(4, device=CUDA), seed=1, epoch=1)
    check(raw_BCHW, 4, 3, *2 * [posed_px(pose, 32)])
    check(poses.theta_N33, 4, 3, 3)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_warps(mode, padding):
    x_BCHW, theta_B23 = torch.zeros(2, 3, 32, 32, device=CUDA), identity(2, device=CUDA)
    check(Sampler(padding, anti_alias=True)(x_BCHW, AffineMap(theta_B23), (7, 9)), 2, 3, 7, 9)
    check(warp(x_BCHW, theta_B23), 2, 3, 32, 32)


def test_batches_and_splits(mode):
    images = some_images(20)
    x_BCHW = images.raw(torch.arange(4, device=CUDA))
    check(x_BCHW, 4, 3, 32, 32)
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)
    train_N, val_N = split(torch.zeros(20, dtype=torch.int64), Protocol(train_images=12, val_images=5), 0)
    check(images.subset(train_N.to(CUDA)).pixels_NHWC, 12, 32, 32, 3, dtype=torch.uint8)
    check(images.subset(val_N.to(CUDA)).labels_N, 5, dtype=torch.int64)


@pytest.mark.parametrize("name", ["cnn", "stn_affine@lenet"])
def test_evaluation_up_to_where_it_needs_numbers(name):
    """Every batch is scored on the device; what the loss is in the end is more than a fake tensor can say."""

    class Watched(Network):
        num_batches = 0

        def forward(self, batch: Batch) -> Tensor:
            logits_BK = super().forward(batch)
            assert logits_BK.device == CUDA
            self.num_batches += 1
            return logits_BK

    network, mode = build(name), FakeTensorMode()
    network.__class__ = Watched
    moved(network, mode)
    with mode, nothing_cached(), pytest.raises(DataDependentOutputException):
        evaluate(network, some_images(2 * BATCH_SIZE + 1), "fp32")
    assert isinstance(network, Watched)
    assert network.num_batches == 3


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_corruptions(mode, name):
    corruption, images = CORRUPTIONS[name], some_images(4)
    raw_BCHW = images.raw(torch.arange(4, device=CUDA))
    u = corruption.draw(name, torch.arange(4, device=CUDA), raw_BCHW.shape[1:])
    assert u.device == CUDA
    for severity in SEVERITIES:
        x_BCHW, poses = corrupting(corruption, u, severity)(raw_BCHW, images.poses)
        check(x_BCHW, 4, 3, 32, 32)
        check(poses.from_upright().apply(base_grid(3, 3, CUDA)), 4, 9, 2)


@pytest.mark.parametrize("name", ["cnn", "stn_random@lenet", "oracle_unwarp"])
def test_moved_images_are_classified(name):
    mode = FakeTensorMode()
    network = moved(build(name), mode)
    with nothing_cached(), mode:
        subjects = Subjects(network, some_images(9), Protocol(precision="fp32", robustness_images=5))
        for placement in (Placement(), Placement(angle_deg=30, scale=2, right_px=1, down_px=-3)):
            check(subjects.predict_placed(subjects.places_N, placement), 5, dtype=torch.int64)
