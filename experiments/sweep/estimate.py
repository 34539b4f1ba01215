"""How long a study takes on this machine: from earlier runs, or measured for a moment."""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from experiments.images.poses import posed_px
from experiments.images.tasks import Images, Say
from experiments.machine.device import Call, here
from experiments.networks.variants import build_policy, parse_variant
from experiments.runs.checkpoints import latest_epoch
from experiments.runs.costs import count_train_flops, prediction_costs
from experiments.runs.images import is_posed_anew, posed_anew, to_device
from experiments.runs.robustness import num_evaluations
from experiments.runs.run import untrained_network
from experiments.runs.training import train
from experiments.study.arms import ArmPlan, make_run_config, network_of
from experiments.study.memory_space import SMALL_PX
from experiments.study.plan import Plan
from experiments.sweep.sweep import Sweep
from ledger.config import Protocol, RunKind, kind_of, kind_of_run
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import keys_of

RUN_OVERHEAD_S = 0.5
MEASURING_S = 3.0
"""That the speed of one variant on a CPU may take to measure, where a step of two images takes less."""
SAY_EVERY_S = 5.0


@dataclass(frozen=True)
class Estimate:
    """Seconds that the runs of a plan are expected to take on this machine.

    runs: of a run of each kind, for each arm.
    by_run: the same by kind_of_run.
    num_done: runs that are in the ledger already.
    kept_epochs: of each run that was begun and can go on from a checkpoint.
    kept_s: what these have done.
    left_s, wall_s: of all that is left, in one worker and in those there are.
    """

    runs: list[list[float]]
    by_run: dict[RunKind, float]
    num_done: int
    kept_epochs: list[int]
    kept_s: float
    left_s: float
    wall_s: float


def estimate(
    plan: Plan,
    sweep: Sweep,
    ledger: Ledger,
    num_workers: int,
    rates: Sequence[float] | None = None,
    call: Call = here,
    say: Say = lambda line: None,
) -> Estimate:
    """What is left of the plan, by the speed of earlier runs, or as measured now by training for a moment.

    rates: training images/s of each arm in one worker, where they are known already. call: calls a function on a
    machine that is to train. say: hears that speeds are measured, and how far that is.
    """
    rates = rates or rates_of_arms(plan, ledger, call, say)
    runs = [seconds_of_runs(plan, arm, rate) for arm, rate in zip(plan.arms, rates, strict=True)]
    by_run = {
        kind_of(arm.pose, arm.variant, kind.stage, kind.protocol.train_images, kind.protocol.epochs): seconds
        for arm, of_arm in zip(plan.arms, runs, strict=True)
        for kind, seconds in zip(plan.kinds, of_arm, strict=True)
    }
    left = runs_left(plan, sweep, ledger)
    begun = {job.key: job.run for arm in sweep.arms for job in arm.jobs if job.key not in ledger}
    kept = [(epochs, run) for key, run in begun.items() if (epochs := latest_epoch(ledger.checkpoints(key)))]
    of_arms = zip(left, runs, strict=True)
    kept_s = sum(by_run[kind_of_run(run)] * epochs / run.protocol.epochs for epochs, run in kept)
    left_s = sum(number * seconds for of_arm in of_arms for number, seconds in zip(*of_arm, strict=True)) - kept_s
    return Estimate(
        runs=runs,
        by_run=by_run,
        num_done=plan.num_runs - sum(map(sum, left)),
        kept_epochs=[epochs for epochs, _ in kept],
        kept_s=kept_s,
        left_s=left_s,
        wall_s=left_s / num_workers,
    )


def runs_left(plan: Plan, sweep: Sweep, ledger: Ledger) -> list[list[int]]:
    """Runs of each kind that each arm of the plan still lacks in the ledger."""
    left = []
    for arm in sweep.arms:
        made = [sum(key in ledger for key in keys) for keys in (arm.trials, arm.finals, *arm.rungs)]
        made += [0] * (len(plan.kinds) - len(made))
        # Fewer of the best settings are tried again than could be, where few trials were completed.
        planned = [len(arm.trials) if arm.finals else plan.trials_an_arm, *(kind.number for kind in plan.kinds[1:])]
        left.append([number - num_made for number, num_made in zip(planned, made, strict=True)])
    return left


def rates_of_arms(plan: Plan, ledger: Ledger, call: Call = here, say: Say = lambda line: None) -> list[float]:
    """Training images/s of one worker in each arm: of its variant as the ledger's runs of this study had it.

    Where it has none, measured for a moment, once for arms that differ in the pose alone, and not in its size or in
    whether images are posed anew.
    """
    known = known_rates(plan, ledger)
    kinds = [(arm.variant, posed_px(arm.pose, plan.protocol.image_px), arm.posed_anew) for arm in plan.arms]
    unknown: dict[tuple[str, int, bool], ArmPlan] = {}
    for kind, arm in zip(kinds, plan.arms, strict=True):
        if arm.variant not in known:
            unknown.setdefault(kind, arm)
    if unknown:
        say(f"Measuring how fast {len(unknown)} variant{'s train' if len(unknown) > 1 else ' trains'} ...")
    measured, last_s, task = dict[tuple[str, int, bool], float](), time.monotonic(), plan.task
    for kind, arm in unknown.items():
        measured[kind] = call(measure_images_per_s, arm, plan.protocol, len(task.classes), task.num_channels)
        if time.monotonic() - last_s > SAY_EVERY_S and len(measured) < len(unknown):
            last_s = time.monotonic()
            say(f"{len(measured)} of {len(unknown)} measured")
    return [known.get(kind[0]) or measured[kind] for kind in kinds]


def known_rates(plan: Plan, ledger: Ledger) -> dict[str, float]:
    """By variant, the mean training images/s of the last few runs that the ledger has of each of its arms.

    What a run says of itself includes its validation, whose share is taken out.
    """
    rates_of: dict[str, list[float]] = {}
    arms = {arm.variant: arm for arm in plan.arms}
    for known in ledger.read_study(plan.name)["arms"] if plan.name in ledger.studies() else ():
        if (variant := known["variant"]) not in arms:
            continue
        for key in [key for key in keys_of(known) if key in ledger][-5:]:
            if rate := ledger.read(key, "cost.json")["images_per_s"]:
                result = ledger.read(key)["result"]
                share = (result["num_val_images"] or 0) / (result["num_train_images"] or math.inf)
                rates_of.setdefault(variant, []).append(rate * (1 + share * evaluation_cost(plan, arms[variant])))
    return {variant: sum(rates) / len(rates) for variant, rates in rates_of.items()}


def measure_images_per_s(arm: ArmPlan, protocol: Protocol, num_classes: int, num_channels: int = 3) -> float:
    """Training speed of the arm's variant on random pixels, with one thread on a CPU as the workers have.

    On a CPU a network for which a whole batch takes seconds is measured on a smaller one: there its speed is the same.
    """
    at_once = min(protocol.batch_size, protocol.train_images or protocol.batch_size)  # a batch may be all there is
    protocol = dataclasses.replace(protocol, batch_size=at_once)
    if protocol.device != "cpu":
        return _images_per_s(arm, protocol, num_classes, num_channels, 2)
    few = dataclasses.replace(protocol, batch_size=min(protocol.batch_size, 2))
    rate = _images_per_s(arm, few, num_classes, num_channels, 1)
    batch_size = min(protocol.batch_size, int(rate * MEASURING_S / 6))
    if batch_size <= 4:
        return rate
    protocol = dataclasses.replace(protocol, batch_size=batch_size)
    return _images_per_s(arm, protocol, num_classes, num_channels, 2)


def _images_per_s(arm: ArmPlan, protocol: Protocol, num_classes: int, num_channels: int, num_steps: int) -> float:
    """Training images/s over epochs of so many steps; the first warms up."""
    device = torch.device(protocol.device)
    num_images = num_steps * protocol.batch_size
    protocol = dataclasses.replace(protocol, epochs=1 + num_steps)
    run = make_run_config(arm, protocol, arm.defaults, stage="trial", seed=0, prune_below=())
    policy = build_policy(parse_variant(arm.variant), run.policy)
    generator = np.random.default_rng(0)
    part = Images(
        generator.integers(0, 256, (num_images, protocol.image_px, protocol.image_px, num_channels), dtype=np.uint8),
        generator.integers(0, num_classes, num_images),
        np.tile(np.eye(2, 3, dtype=np.float32), (num_images, 1, 1)),
    )
    images = to_device(part, run.pose, device, part="train")
    if is_posed_anew(run.pose, policy):
        images = posed_anew(images, part, torch.arange(num_images), run.pose)
    network = untrained_network(run, images, num_classes)
    num_threads, ends = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        train(network, policy, images, None, run, lambda row: ends.append(time.perf_counter()))
    finally:
        torch.set_num_threads(num_threads)
    return num_images * num_steps / (ends[-1] - ends[0]) if len(ends) == 1 + num_steps else 1000.0


def seconds_of_runs(plan: Plan, arm: ArmPlan, rate: float) -> list[float]:
    """Expected seconds of one run of each kind of the arm in one worker, given training images/s."""
    seconds, cost = [], evaluation_cost(plan, arm)
    for stage, protocol in [(kind.stage, kind.protocol) for kind in plan.kinds]:
        num_images = protocol.epochs * (protocol.train_images + cost * protocol.val_images)
        if stage != "trial":  # compared with a prediction it costs little to transform an image
            num_tested = (2 if arm.test_pose else 1) * protocol.test_images + num_evaluations(
                protocol, protocol.test_images
            )
            num_images += cost * num_tested
        seconds.append(num_images / rate + RUN_OVERHEAD_S)
    return seconds


def evaluation_cost(plan: Plan, arm: ArmPlan) -> float:
    """Seconds of a prediction as a share of those of a training step for one image; a third for a plain network.

    As many as of their floating-point operations: some networks look at an image several times when they are tested.
    """
    network = str(dataclasses.replace(parse_variant(arm.variant), policy="none", policy_options={}))
    image_px = posed_px(arm.pose, plan.protocol.image_px)
    return _share_of_flops(network, image_px, plan.protocol.width, len(plan.task.classes), plan.task.num_channels)


@cache
def _share_of_flops(variant: str, image_px: int, width: float, num_classes: int, num_channels: int) -> float:
    protocol = Protocol(width=width, optimiser="sgd")  # which takes any network
    small_px = min(image_px, SMALL_PX)  # both grow with the area
    try:
        network = network_of(variant, protocol, small_px, num_classes, {}, num_channels, device="cpu")
    except UserError:  # it takes larger images only
        small_px = image_px
        network = network_of(variant, protocol, small_px, num_classes, {}, num_channels, device="cpu")
    return prediction_costs(network, small_px)["predict_flops"] / count_train_flops(network, small_px)
