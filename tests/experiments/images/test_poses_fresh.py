"""Poses that are drawn anew: training images whenever they are shown, from upright pixels; all others never."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.policies import POLICIES
from experiments.images.draws import uniform
from experiments.images.poses import PoseMaps, parse_pose, put_in_pose
from experiments.images.tasks import Images, Task
from experiments.networks.variants import build_policy, parse_variant
from experiments.runs.images import DeviceImages, is_posed_anew, posed_anew, to_device
from experiments.runs.run import Outcome, train_and_score, untrained_network
from experiments.runs.training import train
from experiments.study.arms import ArmPlan, posed_in_vain
from ledger.config import Optim, Protocol, RunConfig
from stn.maps import AffineMap
from stn.sampler import base_grid

CPU = torch.device("cpu")
POSED = ["R", "RTS:canvas_px=42:corners=zeros", "P", "E", "TC:canvas_px=40", "R:max_deg=30:corners=reflect"]


def some_images(num: int, seed: int) -> Images:
    pixels_NHWC = np.random.default_rng(seed).integers(0, 256, (num, 32, 32, 3), dtype=np.uint8)
    return Images.upright(pixels_NHWC, np.arange(num) % 3)


PART = some_images(60, 0)
INDEX_N = torch.tensor([50, 3, 41, 8, 9, 20])


def in_training(pose: str, index_N: Tensor = INDEX_N, part: Images = PART) -> DeviceImages:
    return posed_anew(to_device(part, pose, CPU, part="train").subset(index_N), part, index_N, pose)


def shown(images: DeviceImages, seed: int = 1, epoch: int = 1) -> tuple[Tensor, PoseMaps]:
    return images.in_training(torch.arange(len(images)), seed=seed, epoch=epoch)


@pytest.mark.parametrize("pose", POSED)
def test_have_a_pose_for_each_seed_and_epoch(pose):
    images = in_training(pose)
    fixed = images.raw(torch.arange(6))
    draws = [fixed, *(shown(images, seed, epoch)[0] for seed, epoch in ((0, 1), (1, 1), (1, 2), (2, 1)))]
    for number, first in enumerate(draws):
        for other in draws[:number]:
            assert (first != other).flatten(1).any(1).all()
    assert torch.equal(shown(images, 1, 2)[0], draws[3])


@pytest.mark.parametrize("pose", POSED)
def test_do_not_depend_on_their_company(pose):
    raw_NCHW, poses = shown(in_training(pose))
    for some in (torch.tensor([4]), torch.tensor([5, 0]), torch.arange(6).flip(0)):
        few, few_poses = in_training(pose).in_training(some, seed=1, epoch=1)
        assert torch.equal(few, raw_NCHW[some])
        assert torch.equal(few_poses.theta_N33, poses.theta_N33[some])
        again, _ = shown(in_training(pose, INDEX_N[some]))
        assert torch.equal(again, raw_NCHW[some])
        subset, _ = shown(in_training(pose).subset(some))
        assert torch.equal(subset, raw_NCHW[some])


@pytest.mark.parametrize("pose", POSED)
def test_are_upright_pixels_under_one_draw(pose):
    """As put_in_pose makes them of numbers that are drawn here; their true pose is that of these numbers."""
    images = in_training(pose)
    raw_NCHW, poses = shown(images, 7, 3)
    u_NK = uniform(INDEX_N, parse_pose(pose).num_draws, seed=7, epoch=3, purpose=f"pose {pose.split(':')[0]} train")
    drawn = parse_pose(pose).draw(u_NK, 32)
    side_px = raw_NCHW.shape[-1]
    points_M2 = base_grid(5, 5, CPU)
    torch.testing.assert_close(poses.apply(points_M2), drawn.apply(points_M2 * (side_px / 32)), atol=1e-5, rtol=0)
    pixels_NHWC = torch.from_numpy(PART.pixels_NHWC)
    once, _ = put_in_pose(pixels_NHWC[INDEX_N], INDEX_N, pose, part="train", pool_MHWC=pixels_NHWC, seed=7, epoch=3)
    assert torch.equal((raw_NCHW * 255).round().to(torch.uint8).permute(0, 2, 3, 1), once)


@pytest.mark.parametrize("pose", POSED)
def test_keep_the_pose_that_the_task_gave_them(pose):
    own_N23 = np.random.default_rng(3).normal(size=(60, 2, 3)).astype(np.float32)
    part = dataclasses.replace(PART, theta_N23=own_N23)
    points_M2 = base_grid(4, 4, CPU)
    plain, own = (shown(in_training(pose, part=each))[1].apply(points_M2) for each in (PART, part))
    expected = AffineMap(torch.from_numpy(own_N23)[INDEX_N]).apply(plain)
    torch.testing.assert_close(own, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pose", POSED)
def test_are_under_their_one_pose_outside_training(pose):
    """Validation and test images, means and whitening: all that is not shown in training."""
    fresh = f"{pose}:fresh=true"
    for part in ("train", "test"):
        once, anew = (to_device(PART, each, CPU, part=part) for each in (pose, fresh))
        assert torch.equal(once.pixels_NHWC, anew.pixels_NHWC)
        assert torch.equal(once.poses.theta_N33, anew.poses.theta_N33)
    assert torch.equal(in_training(fresh).pixels_NHWC, to_device(PART, pose, CPU, part="train").pixels_NHWC[INDEX_N])


def test_images_that_are_not_posed_anew_are_shown_as_they_are():
    images = to_device(PART, "R", CPU, part="train")
    raw_NCHW, poses = shown(images)
    assert torch.equal(raw_NCHW, images.raw(torch.arange(60)))
    assert torch.equal(poses.theta_N33, images.poses.theta_N33)


@pytest.mark.parametrize(
    ("pose", "policy", "anew"),
    [
        ("R", "none", False),
        ("R", "affine", False),
        ("R", "posed", True),
        ("R:fresh=true", "none", True),
        ("R:fresh=true", "posed", True),
        ("R:fresh=false", "none", False),
        ("upright", "posed", False),
    ],
)
def test_who_is_posed_anew(pose, policy, anew):
    assert is_posed_anew(pose, POLICIES[policy]()) is anew


PROTOCOL = Protocol(
    train_images=30, val_images=10, epochs=2, batch_size=10, precision="fp32", device="cpu", robustness="none"
)
TASK = Task("folder", "noise", ("a", "b", "c"), PART, some_images(12, 1), "0" * 64)


def outcome_of(variant: str, pose: str) -> Outcome:
    run = RunConfig(variant=variant, stage="final", pose=pose, seed=1, protocol=PROTOCOL, optim=Optim(lr=0.05))
    outcome = Outcome()
    train_and_score(run, TASK, to_device(PART, pose, CPU, part="train"), outcome, lambda row: None)
    assert outcome.status == "completed"
    return outcome


def test_posed_is_a_fresh_pose_bit_for_bit():
    asked, fresh, both = (
        outcome_of(variant, pose)
        for variant, pose in (("cnn+posed", "R"), ("cnn", "R:fresh=true"), ("cnn+posed", "R:fresh=true"))
    )
    assert asked.files["weights.safetensors"] == fresh.files["weights.safetensors"]
    assert (asked.history, asked.result, asked.files) == (fresh.history, fresh.result, fresh.files)
    assert (both.history, both.files) == (fresh.history, fresh.files)
    assert outcome_of("cnn", "R").history != fresh.history


def test_posed_changes_nothing_where_images_are_upright():
    assert outcome_of("cnn+posed", "upright").history == outcome_of("cnn", "upright").history


def test_statistics_and_whitening_are_those_of_the_one_pose():
    networks = []
    for pose in ("R", "R:fresh=true"):
        run = RunConfig(variant="cnn", pose=pose, protocol=PROTOCOL)
        images = in_training(pose) if "fresh" in pose else to_device(PART, pose, CPU, part="train").subset(INDEX_N)
        networks.append(untrained_network(run, images, 3))
    once, anew = (network.state_dict() for network in networks)
    assert all(torch.equal(once[key], anew[key]) for key in once)


def test_networks_are_given_the_poses_of_what_they_are_shown(monkeypatch):
    """An image of one bright dot is unwarped to where the dot was, in every epoch anew."""
    pixels_NHWC = np.zeros((60, 32, 32, 3), dtype=np.uint8)
    pixels_NHWC[:, 8:12, 18:22] = 255
    part = dataclasses.replace(PART, pixels_NHWC=pixels_NHWC)
    images, seen = in_training("R:fresh=true", torch.arange(60), part), list[Tensor]()
    run = RunConfig(variant="oracle_unwarp", pose="R:fresh=true", protocol=PROTOCOL, optim=Optim(lr=0.01))
    network = untrained_network(run, images, 3)
    forward = network.forward

    def watched(batch: Any) -> Tensor:
        seen.append(network.look(batch).mean(1))  # type: ignore[union-attr]
        return forward(batch)

    monkeypatch.setattr(network, "forward", watched)
    train(network, build_policy(parse_variant("cnn"), {}), images, None, run, lambda row: None)
    assert len(seen) == 2 * 6
    for light_BHW in seen:
        at_32 = torch.arange(32.0)
        for axis, centre in ((1, 9.5), (2, 19.5)):
            place_B = (light_BHW.sum(3 - axis) * at_32).sum(1) / light_BHW.sum((1, 2))
            torch.testing.assert_close(place_B, torch.full_like(place_B, centre), atol=0.2, rtol=0)


def test_a_plan_says_where_posed_does_nothing():
    arms = [
        ArmPlan(pose, variant, "cnn", (), {})
        for pose in ("upright", "R", "R:fresh=true", "TC:fresh=true")
        for variant in ("cnn", "cnn+posed")
    ]
    assert posed_in_vain(arms) == (
        "upright/cnn+posed, R:fresh=true/cnn+posed, TC:fresh=true/cnn+posed: `posed` does nothing there; "
        "it is for poses that are drawn once."
    )
    assert posed_in_vain(arms[:1] + arms[2:4]) == ""
