"""How many epochs, rungs and seeds of a probe fit the minutes that a person has, and on how many images.

Epochs come first, until nothing is left to learn (a short training tells the opposite of the truth), then rungs, then
seeds, never fewer than it takes to decide; of many images, some are left out.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from experiments.runs.robustness import num_evaluations
from experiments.study.ladder import Ladder, Rung, rung_protocols
from experiments.study.plan import Plan
from experiments.study.settled import num_finished
from experiments.sweep.estimate import evaluation_cost, seconds_of_runs
from ledger.config import Protocol, num_steps
from ledger.errors import UserError
from ledger.ledger import Ledger

MIN_TRAIN_IMAGES, MIN_TEST_IMAGES = 200, 50
"""Of the folder. With fewer, no network learns enough to be compared, and no test part tells."""
FEW_TRAIN_IMAGES = 500
"""Fewer than this are not taken for want of time, if the folder has them."""
MIN_STEPS, MIN_EPOCHS = 300, 30
"""Of training, at least. Of docs/ripeness.md's comparisons those of 30 epochs have the sign of long training; of 8 and
10 epochs not all have."""
TESTED = 4
"""Test images for each training image, at most."""
MAX_SEEDS = 20
"""More than this are not taken, however much time is left."""


def check_enough(plan: Plan) -> None:
    """Raises UserError for images too few to tell anything."""
    num_train, num_test = len(plan.task.train), plan.task.num_test_images
    if num_train < MIN_TRAIN_IMAGES or num_test < MIN_TEST_IMAGES:
        raise UserError(
            f"path: {plan.task.label} has {num_train:,} training and {num_test:,} test images, too few to tell "
            f"anything; a probe takes {MIN_TRAIN_IMAGES} and {MIN_TEST_IMAGES} at least"
        )


def earlier_sizes(plan: Plan, ledger: Ledger) -> Plan | None:
    """The plan with the sizes that its study in the ledger has, so that a probe that was stopped goes on; else None.

    Measured anew, the machine's speed would be another, and so all sizes. Device and precision are the plan's, which
    has the study's where this machine can.
    """
    if plan.settled is None or not num_finished(ledger, plan.name):
        return None
    known = ledger.read_study(plan.name)
    protocol = replace(plan.settled, device=plan.protocol.device, precision=plan.protocol.precision)
    sized = with_seeds(replace(plan, protocol=protocol), known["num_finals"])
    return with_rungs(sized, [rung["epochs"] for rung in known["rungs"]])


def fit_to_time(plan: Plan, rates: Sequence[float], seconds: float, num_workers: int, num_tried: int = 0) -> Plan:
    """The plan with as many epochs on all images as the time allows, or, with the fewest epochs, as many images.

    Where time is left with the most epochs it goes into a second rung, then into seeds.
    rates: training images/s of each arm in one worker. num_tried: augmentations that are tried before, once each.
    Raises UserError where even the least that tells anything takes longer; its message says how much longer.
    """
    most = plan.protocol
    fewest = min(FEW_TRAIN_IMAGES, most.train_images)

    def left_s(fitted: Plan) -> float:
        return seconds - wall_seconds(fitted, rates, num_workers, num_tried)

    def of_images(number: int) -> Plan:
        return with_sizes(plan, number, min_epochs(number, most))

    def with_epochs(epochs: int) -> Plan:
        return with_sizes(plan, most.train_images, epochs)

    climbing = with_rungs(with_epochs(most.epochs), (most.epochs // 4, most.epochs // 2))
    if left_s(climbing) >= 0:
        seeds = most_that_fits(plan.study.final_seeds, MAX_SEEDS, lambda num: left_s(with_seeds(climbing, num)) >= 0)
        return with_seeds(climbing, seeds)
    least = min_epochs(most.train_images, most)
    if left_s(with_epochs(least)) >= 0:
        return with_epochs(most_that_fits(least, most.epochs, lambda epochs: left_s(with_epochs(epochs)) >= 0))
    if (missing_s := -left_s(of_images(fewest))) > 0:
        raise UserError(time_text(of_images(fewest), missing_s))
    images = most_that_fits(fewest, most.train_images, lambda number: left_s(of_images(number)) >= 0)
    return of_images(max(fewest, round_down(images)))


def most_that_fits(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest number from low to high that fits, where low does and what fits has no gaps."""
    return low + bisect_left(range(low + 1, high + 1), True, key=lambda number: not fits(number))


def time_text(least: Plan, missing_s: float) -> str:
    """That the minutes are too few, by missing_s, for the least that tells anything; and how many would do."""
    minutes, protocol = float(least.study.asked["minutes"]), least.protocol
    steps = num_steps(protocol.train_images, protocol.batch_size, protocol.epochs)
    return (
        f"minutes: {minutes:g} are too few here to train {len(least.arms)} variants {least.study.final_seeds} times "
        f"for {steps:,} steps, the least that tells anything; about {math.ceil(minutes + missing_s / 60)} would do"
    )


def min_epochs(train_images: int, protocol: Protocol) -> int:
    """On so many images; not more than the protocol's."""
    steps = num_steps(train_images, protocol.batch_size, epochs=1)
    return min(protocol.epochs, max(MIN_EPOCHS, math.ceil(MIN_STEPS / steps)))


def with_sizes_of(plan: Plan, other: Plan) -> Plan:
    """The plan with another's protocol, ladder and seeds."""
    study = replace(plan.study, final_seeds=other.study.final_seeds, ladder=other.study.ladder)
    return replace(plan, study=study, protocol=other.protocol, rungs=other.rungs)


def with_seeds(plan: Plan, num: int) -> Plan:
    return replace(plan, study=replace(plan.study, final_seeds=num))


def with_rungs(plan: Plan, epochs: Sequence[int]) -> Plan:
    """The plan with a ladder of so many epochs, in rising order, without those of none."""
    ladder = Ladder(tuple(Rung(None, number) for number in epochs if number))
    study = replace(plan.study, ladder=ladder)
    return replace(plan, study=study, rungs=rung_protocols(ladder, study.file, plan.protocol, plan.protocol))


def with_sizes(plan: Plan, train_images: int, epochs: int) -> Plan:
    """The plan with so many training images and epochs, a quarter of these as a rung, and as much evaluation as pays.

    TESTED test images for each training image, since those cost mostly less than a training step, and once; robustness
    only where it takes at most a fifth of the training's time, in every arm.
    """
    test_images = min(plan.protocol.test_images, TESTED * train_images)
    protocol = replace(plan.protocol, train_images=train_images, test_images=test_images, epochs=epochs)
    cost = max(evaluation_cost(plan, arm) for arm in plan.arms)
    if cost * num_evaluations(protocol, test_images) > train_images * epochs / 5:
        protocol = replace(protocol, robustness="none")
    return with_rungs(replace(plan, protocol=protocol), (epochs // 4,))


def round_down(number: int) -> int:
    """To two digits and zeros, as a person would say it."""
    unit = 10 ** max(0, int(math.log10(number)) - 1)
    return number // unit * unit


def wall_seconds(plan: Plan, rates: Sequence[float], num_workers: int, num_tried: int = 0) -> float:
    """What the whole plan is expected to take, for so many training images/s of each arm in one worker.

    num_tried: runs of the slowest arm that come before.
    """
    runs = [seconds_of_runs(plan, arm, rate) for arm, rate in zip(plan.arms, rates, strict=True)]
    trials, *finals = [
        [(kind.number, seconds) for seconds in of_arms]
        for kind, of_arms in zip(plan.kinds, zip(*runs, strict=True), strict=True)
    ]
    tried = [(num_tried, max(seconds for _, seconds in trials))]
    return sum(_phase_seconds(phase, num_workers) for phase in (tried, trials, list(chain(*finals))))


def _phase_seconds(phase: Sequence[tuple[int, float]], num_workers: int) -> float:
    """Until all runs of a phase are done, at most (Graham 1966): none is parted, and none of the next begins before."""
    total = sum(number * seconds for number, seconds in phase)
    longest = max((seconds for number, seconds in phase if number), default=0.0)
    return total / num_workers + (1 - 1 / num_workers) * longest
