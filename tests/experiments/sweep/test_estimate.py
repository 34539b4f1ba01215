"""How fast a variant trains: as the ledger knows it, else measured once, however many arms there are; and what a run of
it takes then, with all its predictions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import simulated_cluster
from benchmarks.simulated_cluster import Simulation, made_up_plan
from experiments.runs.costs import count_train_flops
from experiments.runs.evaluation import ask
from experiments.runs.images import DeviceImages
from experiments.runs.training import train
from experiments.study.arms import ArmPlan
from experiments.sweep import estimate
from experiments.sweep.estimate import (
    RUN_OVERHEAD_S,
    evaluation_cost,
    known_rates,
    measure_images_per_s,
    rates_of_arms,
    seconds_of_runs,
)
from ledger.config import Protocol, RunConfig
from ledger.ledger import Ledger
from tests.support.networks import build, some_images, train_on


def test_speed_is_measured_once_for_arms_that_differ_in_the_pose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made_up_plan(tmp_path, 40 * 25)  # two poses of 20 variants
    poses = list(dict.fromkeys(arm.pose for arm in plan.arms))
    large = tuple(replace(arm, pose="TC:canvas_px=60") for arm in plan.arms if arm.pose == poses[0])
    plan = replace(plan, arms=(*plan.arms, *large))
    measured: list[tuple[str, str]] = []

    def call(function: Callable[..., Any], arm: Any, *arguments: Any) -> Any:
        measured.append((arm.pose, arm.variant))
        now[0] += 0.5
        return float(len(measured))

    now, said = [0.0], list[str]()
    monkeypatch.setattr("experiments.sweep.estimate.time.monotonic", lambda: now[0])
    rates = rates_of_arms(plan, Ledger(tmp_path / "runs"), call, said.append)
    variants = [arm.variant for arm in large]
    assert len(poses) == 2 and len(set(variants)) == 20
    assert measured == [(pose, variant) for pose in (poses[0], "TC:canvas_px=60") for variant in variants]
    assert rates == [*range(1, 21), *range(1, 21), *range(21, 41)]
    of_40 = [f"{num} of 40 measured" for num in (11, 22, 33)]  # one line in five seconds or more
    assert said == ["Measuring how fast 40 variants train ...", *of_40]


def test_poses_that_are_drawn_anew_have_a_speed_of_their_own(tmp_path: Path) -> None:
    plan = made_up_plan(tmp_path, 40 * 25)
    poses = ("R", "RTS", "R:fresh=true", "E:fresh=true")
    arms = [replace(plan.arms[0], pose=pose, variant=variant) for pose in poses for variant in ("cnn", "cnn+posed")]
    measured: list[tuple[str, str]] = []

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        measured.append((arguments[0].pose, arguments[0].variant))
        return float(len(measured))

    rates = rates_of_arms(replace(plan, arms=tuple(arms)), Ledger(tmp_path / "runs"), call)
    assert measured == [("R", "cnn"), ("R", "cnn+posed"), ("R:fresh=true", "cnn")]
    assert rates == [1, 2, 1, 2, 3, 2, 3, 2]


@pytest.mark.long
def test_speed_is_that_of_the_last_runs_of_a_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NUM_TRIALS": 6, "NUM_FINALS": 2, "NUM_EPOCHS": 2, "RUNS_OF_ARM": 14}.items():
        monkeypatch.setattr(simulated_cluster, name, value)
    simulation = Simulation(tmp_path, 21 * 14, 4, False)  # three poses of seven variants
    simulation.measure()
    plan, ledger = simulation.plan, Ledger(tmp_path / "runs", read_only=True)
    variant, reads = plan.arms[0].variant, list[str]()
    keys = [arm for arm in ledger.read_study(plan.name)["arms"] if arm["variant"] == variant]
    last = {key for arm in keys for key in (*arm["trials"], *arm["finals"])[-5:]}
    rates = {key: 100.0 * number for number, key in enumerate(sorted(last), 1)}

    def read(self: Ledger, key: str, name: str = "run.json") -> dict[str, Any]:
        if name == "run.json":
            return {"result": {"num_train_images": 1000, "num_val_images": 500}}
        reads.append(key)
        return {"images_per_s": rates.get(key)}

    monkeypatch.setattr(Ledger, "read", read)
    known = known_rates(plan, ledger)
    trained = 1 + 0.5 * evaluation_cost(plan, plan.arms[0])  # a run's own figure is of training and validation
    assert known == {variant: pytest.approx(trained * sum(rates.values()) / len(rates))}  # the others have no figures
    assert len(reads) == len(plan.arms) * 5 and last <= set(reads)
    said = list[str]()
    assert rates_of_arms(replace(plan, arms=plan.arms[:1]), ledger, say=said.append) == [known[variant]]
    assert not said


@pytest.mark.parametrize(
    ("image_s", "start_s", "batches"),
    [(1e-4, 0.01, [2, 128]), (0.05, 0.0, [2, 10]), (2.0, 0.0, [2])],
    ids=["quick", "slow", "very slow"],
)
def test_a_slow_network_is_measured_on_few_images(
    image_s: float, start_s: float, batches: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, seen = [0.0], list[int]()
    monkeypatch.setattr("experiments.sweep.estimate.time.perf_counter", lambda: now[0])

    def train(network: Any, policy: Any, images: DeviceImages, none: None, run: RunConfig, report: Any) -> None:
        seen.append(run.protocol.batch_size)
        now[0] += start_s  # before the first step is done
        for _ in range(run.protocol.epochs):
            now[0] += image_s * len(images)
            report({})

    monkeypatch.setattr(estimate, "train", train)
    plan = made_up_plan(tmp_path, 25)
    protocol = replace(plan.protocol, batch_size=128, device="cpu")
    assert measure_images_per_s(plan.arms[0], protocol, 10) == pytest.approx(1 / image_s)
    assert seen == batches
    assert now[0] < 2 * start_s + max(2 * estimate.MEASURING_S, 4 * image_s + 0.1)


def test_no_batch_is_larger_than_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """65,536 images at once, of a study of 60, took all memory of the plan's own process."""
    sizes: list[int] = []

    def images_per_s(arm: ArmPlan, protocol: Protocol, num_classes: int, num_channels: int, num_steps: int) -> float:
        sizes.append(protocol.batch_size)
        return 1e9

    monkeypatch.setattr(estimate, "_images_per_s", images_per_s)
    plan = made_up_plan(tmp_path, 25)
    for device in ("cpu", "cuda"):
        protocol = replace(plan.protocol, batch_size=65_536, train_images=60, device=device)
        measure_images_per_s(plan.arms[0], protocol, 10)
    assert sizes == [2, 60, 60]


@pytest.mark.parametrize(("pose", "at_least"), [("upright", 10), ("R:fresh=true", 1)])
def test_the_speed_of_a_variant_is_measured(
    pose: str, at_least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, anew = made_up_plan(tmp_path, 25), list[bool]()

    def watched(network: Any, policy: Any, images: DeviceImages, *others: Any) -> str:
        anew.append(images.anew is not None)
        return train(network, policy, images, *others)

    monkeypatch.setattr(estimate, "train", watched)
    arm = replace(plan.arms[0], pose=pose)
    assert at_least < measure_images_per_s(arm, replace(plan.protocol, device="cpu"), 10) < 1e6
    assert anew and all(each is ("fresh" in pose) for each in anew)


def test_what_runs_are_expected_to_take_is_in_the_order_of_what_they_compute(tmp_path: Path) -> None:
    """Of networks that look at an image once or several times, in training, when they are tested, or both."""
    names = ["cnn", "cnn_tta", "cnn_its:num_turns=8", "augerino:tested=16", "ti_pooling:num_turns=4"]
    names += ["stn_affine", "stn_probabilistic", "canonical:num_turns=4:choice=latent:scorer=lenet"]
    names += [f"canonical:num_turns=8:scorer=lenet:choice=latent:{few}" for few in ("copies=2", "tested=1")]
    protocol = Protocol(
        epochs=2, train_images=6, val_images=4, test_images=10, batch_size=6, optimiser="sgd", precision="fp32",
        device="cpu", robustness="none",
    )  # fmt: skip
    plan = replace(made_up_plan(tmp_path, 25), protocol=protocol)
    expected, counted = dict[str, float](), dict[str, float]()
    for name in [f"{name}@lenet" for name in names]:
        flops = count_train_flops(build(name), 32)
        *_, final_s = seconds_of_runs(plan, replace(plan.arms[0], pose="upright", variant=f"{name}+affine"), 1 / flops)
        expected[name] = final_s - RUN_OVERHEAD_S
        with FlopCounterMode(display=False) as counter:
            _, network, _ = train_on(some_images(6), name, protocol, val_images=some_images(4))
            ask(network, some_images(10), "fp32")
        counted[name] = counter.get_total_flops()
    assert expected == pytest.approx(counted, rel=0.01)
    assert sorted(expected, key=expected.__getitem__) == sorted(counted, key=counted.__getitem__)
    assert counted["cnn_its:num_turns=8@lenet"] > 3 * counted["cnn@lenet"]
