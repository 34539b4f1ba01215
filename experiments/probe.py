"""A probe: whether a spatial transformer would help on a folder of images, in the minutes that a person has.

The seeds are never fewer than it takes to decide; images and epochs give way. It is a study like any other, whose sweep
file is studies/probe.yaml.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.errors import UserError
from experiments.estimate import EVALUATION_COST, seconds_of_runs
from experiments.ledger import Ledger
from experiments.plan import Plan
from experiments.robustness import num_evaluations
from experiments.settled import num_finished
from experiments.study import Study, load_study

FILE = Path(__file__).parent / "studies/probe.yaml"

MIN_TRAIN_IMAGES, MIN_TEST_IMAGES = 200, 50
"""Of the folder. With fewer, no network learns enough to be compared, and no test part tells."""
FEW_TRAIN_IMAGES = 500
"""Fewer than this are not taken for want of time, if the folder has them."""
MIN_EPOCHS = 8
"""Transformers begin to move later than that at the earliest; all images once more matter less."""
MAX_SEEDS = 20
"""More than this are not taken, however much time is left."""
MIN_MINUTES, MAX_MINUTES = 0.5, 1440.0
FAILS = ("worse", "negligible", "equivalent")
"""What is decided of something that does not help."""
REPORT_S = 25.0
"""Seconds for workers to start, and for tables, figures and the report at the end."""


def load_probe(path: Path, minutes: float, budget: str) -> Study:
    """The probe of a folder. Its name has the minutes, since a longer one makes other runs.

    Raises UserError for minutes that make no sense.
    """
    if not MIN_MINUTES <= minutes <= MAX_MINUTES:
        raise UserError(f"minutes: {minutes:g} is not between {MIN_MINUTES:g} and {MAX_MINUTES:g}")
    study = load_study(FILE, budget, task=f"folder:{path}")
    name = f"{study.name}-{minutes:g}min".replace(".", "-")
    return replace(study, name=name, file=str(Path("experiments/studies", FILE.name)), minutes=minutes)


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
    protocol = replace(plan.settled, device=plan.protocol.device, precision=plan.protocol.precision)
    return with_seeds(replace(plan, protocol=protocol), ledger.read_study(plan.name)["num_finals"])


def fit_to_time(plan: Plan, rates: Sequence[float], seconds: float, num_workers: int) -> Plan:
    """The plan with as many epochs on all images as the time allows, or, with the fewest epochs, as many images.

    Where time is left with the most epochs it goes into seeds; they are never fewer than the plan's. Where even the
    fewest images take longer, those. rates: training images/s of each arm in one worker.
    """
    most = plan.protocol
    fewest = min(FEW_TRAIN_IMAGES, most.train_images)

    def fits(train_images: int, epochs: int) -> bool:
        return wall_seconds(with_sizes(plan, train_images, epochs), rates, num_workers) <= seconds

    whole = with_sizes(plan, most.train_images, most.epochs)
    for num in range(MAX_SEEDS, plan.study.final_seeds, -1):
        if wall_seconds(with_seeds(whole, num), rates, num_workers) <= seconds:
            return with_seeds(whole, num)
    for epochs in range(most.epochs, MIN_EPOCHS - 1, -1):
        if fits(most.train_images, epochs):
            return with_sizes(plan, most.train_images, epochs)
    low, high = fewest, most.train_images
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle, MIN_EPOCHS) else (low, middle)
    return with_sizes(plan, max(fewest, round_down(low)), MIN_EPOCHS)


def with_seeds(plan: Plan, num: int) -> Plan:
    return replace(plan, study=replace(plan.study, final_seeds=num))


def with_sizes(plan: Plan, train_images: int, epochs: int) -> Plan:
    """The plan with so many training images and epochs, and no more evaluation than they are worth.

    Four test images for each training image, since those cost a third of a training step, once; robustness only where
    it takes at most a fifth of the training's time.
    """
    test_images = min(plan.protocol.test_images, 4 * train_images)
    protocol = replace(plan.protocol, train_images=train_images, test_images=test_images, epochs=epochs)
    if EVALUATION_COST * num_evaluations(protocol, test_images) > train_images * epochs / 5:
        protocol = replace(protocol, robustness="none")
    return replace(plan, protocol=protocol)


def round_down(number: int) -> int:
    """To two digits and zeros, as a person would say it."""
    unit = 10 ** max(0, int(math.log10(number)) - 1)
    return number // unit * unit


def wall_seconds(plan: Plan, rates: Sequence[float], num_workers: int) -> float:
    """What the whole plan is expected to take, for so many training images/s of each arm in one worker."""
    total = sum(
        kind.number * seconds
        for arm, rate in zip(plan.arms, rates, strict=True)
        for kind, seconds in zip(plan.kinds, seconds_of_runs(plan, arm, rate), strict=True)
    )
    return total / num_workers


def advice(augmentation: str, transformer: str, both: str, size: str = "") -> str:
    """Whether a transformer would help, or augmentation is enough, in a sentence.

    What was decided of augmentation alone and of a transformer alone, each against neither, and of both against
    augmentation, in the words of analysis/claims.py. size: of the training, which all of it holds for.
    """
    text = _advice(augmentation, transformer, both)
    return f"On {size}: {text[0].lower()}{text[1:]}" if size else text


def _advice(augmentation: str, transformer: str, both: str) -> str:
    if augmentation == "better" and both == "better":
        return "Yes, augmentation helps here, and a spatial transformer on top of it helps further."
    if augmentation == "better" and both in FAILS:
        what = "on top of it does harm" if both == "worse" else "adds nothing to it that matters"
        return f"Augmentation is enough here: a spatial transformer {what}."
    decisions = {
        "augmentation": augmentation,
        "a spatial transformer by itself": transformer,
        "a spatial transformer on top of augmentation": both,
    }
    told = (
        (("better",), "{} helps here", "{} help here"),
        (FAILS, "{} does not help here", "{} do not help here"),
        (("behind",), "{} helps only behind the plain network", "{} help only behind the plain network"),
        (("idle",), "{} did not learn to look, and so is untested", "{} did not learn to look, and so are untested"),
        (
            ("unripe",),
            "whether {} helps, this training is too short to tell",
            "whether {} help, this training is too short to tell",
        ),
        (("undecided", "untested"), "of {} it is too early to say", "of {} it is too early to say"),
    )
    parts = []
    for of, one, several in told:
        if subjects := [subject for subject, decision in decisions.items() if decision in of]:
            parts.append((one if len(subjects) == 1 else several).format(listed(subjects)))
    if set(decisions.values()) <= {"undecided", "untested"}:
        return "Too early to say whether augmentation or a spatial transformer would help here."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def listed(subjects: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(subjects[:-1]), subjects[-1])))
