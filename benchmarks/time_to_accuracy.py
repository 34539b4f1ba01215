"""Seconds of training until a network is right about so many test images, beside the usual way to train one.

Each training has a process of its own, with a thread for each core. Its clock starts when the images are decoded and
stands while accuracy is measured, on the test part: nothing is chosen by it here, and the numbers of epochs below go by
validation images.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.machine import wait_for
from benchmarks.remote import Remote
from benchmarks.report import Measurement, median, print_load, print_machine, print_note, print_table
from benchmarks.usual_way import AUGMENTATIONS, NUM_LOADERS, PilImages, PlainTraining, new_loader
from benchmarks.workloads import OLD_RECIPE, WORKLOADS, Workload
from experiments.images.tasks import Say, load_task
from experiments.images.tasks.cache import cache_folder, held
from experiments.machine.cores import num_cores
from experiments.machine.device import prepare_device, resolve
from experiments.networks.variants import build_policy, parse_variant
from experiments.runs.evaluation import evaluate
from experiments.runs.images import DeviceImages, fit_to_task, split, to_device
from experiments.runs.run import untrained_network
from experiments.runs.training import Row, train
from experiments.terminal.display import say_to
from ledger.config import Protocol, RunConfig
from ledger.errors import UserError

OLD_EPOCHS, NEW_EPOCHS = 15, 4
"""A schedule has to know how long it is: as few as should come to 80 % of CIFAR-10's validation images. With 10 of the
old recipe a trial came to 79.4 %, and with 13 to 79.7 % of the test images the usual way."""
QUICK_EPOCHS, QUICK_IMAGES = 2, 256
USUAL, OLD, NEW = "usual way", "engine, old recipe", "engine, new recipe"
RATIOS = ((USUAL, OLD, "engine", None), (OLD, NEW, "recipe", None), (USUAL, NEW, "both", 10.0))
"""What over what, which part of the whole factor that is, and what it is hoped to reach."""
NOTE = (
    "Usual way: {usual_way}. Engine, old recipe: the same network, optimiser, schedule and epochs, {precision}; new "
    "recipe: the default. Seconds: of training, from decoded images to the end of the first epoch after which "
    "{percent:g} % of the test images are right; the clock stands while that is measured. {num_train_images:,} "
    "training and {num_test_images:,} test images, another seed in each round. Rounds: {num_rounds}; figures are "
    "medians, ratios medians of the rounds' ratios. A side that misses the target in any round has none."
)
Point = dict[str, Any]
"""One point of a curve: seconds of training, whole epochs, and the share of the test images that are right then."""
Tell = Callable[[Point], None]


class Clock:
    """Tells accuracy over seconds of training. It runs from now on, and stands while accuracy is measured."""

    def __init__(self, device: torch.device, tell: Tell) -> None:
        self.device, self.tell = device, tell
        self.start = time.perf_counter()

    def stop_for(self, epoch: int, accuracy: Callable[[], float]) -> None:
        """The epoch is over: measure."""
        wait_for(self.device)
        stopped = time.perf_counter()
        self.tell({"seconds": round(stopped - self.start, 3), "epoch": epoch, "accuracy": accuracy()})
        self.start += time.perf_counter() - stopped


class Training:
    """One training, in a process of its own. content_hash: of images that the cache holds."""

    def __init__(self, content_hash: str, cache: Path, device: torch.device) -> None:
        images = held(content_hash, cache)
        assert images is not None, content_hash
        self.images, self.device = images, device

    def parts(self, run: RunConfig, device: torch.device) -> tuple[DeviceImages, DeviceImages]:
        """What the run trains on, and the test images."""
        pool = to_device(self.images.train, run.pose, device, part="train")
        train_N, _ = split(pool.labels_N.cpu(), run.protocol, run.seed)
        test = to_device(self.images.test, run.pose, device, part="test", num=run.protocol.test_images)
        return pool.subset(train_N.to(device)), test

    def usual_way(self, workload: Workload, run: RunConfig, tell: Tell) -> None:
        """Train as it is usually written."""
        images, test = self.parts(run, torch.device("cpu"))
        torch.manual_seed(run.seed)
        clock, epochs = Clock(self.device, tell), run.protocol.epochs
        loader = new_loader(PilImages(images, AUGMENTATIONS[workload.variant]), run.protocol.batch_size)
        plain = PlainTraining(workload, self.device, len(self.images.classes))
        schedule = OneCycleLR(plain.optimiser, run.optim.lr, epochs * len(loader), cycle_momentum=False)
        for epoch in range(1, epochs + 1):
            plain.network.train()
            for x_BCHW, labels_B in loader:
                plain.step(x_BCHW, labels_B)
                schedule.step()
            clock.stop_for(epoch, lambda: plain.accuracy(test))

    def engine(self, workload: Workload, run: RunConfig, tell: Tell) -> None:
        """Train as a worker does, but with a thread for each core."""
        prepare_device(self.device)
        if self.device.type == "cpu":
            torch.set_num_threads(num_cores())
        images, test = self.parts(run, self.device)
        clock, policy = Clock(self.device, tell), build_policy(parse_variant(workload.variant), {})
        network = untrained_network(run, images, len(self.images.classes))

        def after_epoch(row: Row) -> None:
            clock.stop_for(int(row["epoch"] or 0), lambda: evaluate(network, test, run.protocol.precision).accuracy)

        train(network, policy, images, None, run, after_epoch)


def measure(path: Path, out: Path, *, target: float, num_rounds: int, quick: bool) -> int:
    """Train all sides on the folder's images, print, and write as JSON. quick: on a few images, to see that it works.

    Raises UserError for values that make no sense, for a file that cannot be written and for images that cannot be had,
    before anything is trained.
    """
    if not 0 < target <= 1:
        raise UserError(f"target: {target:g} is not a share of the images above 0 and up to 1, such as 0.8")
    if num_rounds < 1:
        raise UserError(f"rounds: {num_rounds} is less than 1")
    measurement, cache = Measurement(out, quick=quick), cache_folder()
    say, few = say_to(measurement.console), QUICK_IMAGES if quick else 0
    task = load_task(f"folder:{path}", image_px=Protocol().image_px, cache=cache, say=say)
    fitted, shrunk = fit_to_task(resolve(Protocol(train_images=few, test_images=few), cache), task)
    if shrunk:
        say(shrunk)
    sides, device = sides_for(fitted, quick=quick), torch.device(fitted.device)
    curves: dict[str, list[list[Point]]] = {side: [] for side in sides}
    measurement.start_s = time.perf_counter()  # decoding is not counted
    for number in range(1, num_rounds + 1):
        for side, workload in sides.items():
            with Remote(Training, task.content_hash, cache, device) as training:
                say(f"round {number} of {num_rounds}, {side}")
                curves[side].append(curve_of(side, workload, number, training, say))
    reports = [side_report(side, workload, curves[side], target) for side, workload in sides.items()]
    measurement.finish(
        print_report,
        device,
        {
            "target_accuracy": target,
            "num_rounds": num_rounds,
            "num_train_images": fitted.train_images,
            "num_test_images": fitted.test_images,
        },
        {
            "task": task.record(),
            "usual_way": f"PIL images, torchvision transforms, DataLoader with {NUM_LOADERS} processes, the plain "
            "network, torch's SGD and one cycle, fp32",
            "sides": reports,
            "ratios": list(ratios(reports)),
        },
    )
    say(f"Written to {out}")
    return 0


def sides_for(fitted: Protocol, *, quick: bool) -> dict[str, Workload]:
    """What each side trains, on as many images, on the device and in the precision of the protocol."""
    shared = ("train_images", "val_images", "test_images", "device", "precision")

    def fit(workload: Workload, epochs: int) -> Workload:
        settings = {name: getattr(fitted, name) for name in shared} | {"epochs": QUICK_EPOCHS if quick else epochs}
        return dataclasses.replace(workload, protocol=dataclasses.replace(workload.protocol, **settings))

    old = fit(OLD_RECIPE, OLD_EPOCHS)
    return {USUAL: old, OLD: old, NEW: fit(WORKLOADS[-1], NEW_EPOCHS)}


def curve_of(side: str, workload: Workload, seed: int, training: Remote, say: Say) -> list[Point]:
    """Train the side to its end. Raises UserError where its loss does not stay finite."""
    run = dataclasses.replace(workload.run(workload.protocol.epochs), seed=seed)
    curve, epochs = list[Point](), run.protocol.epochs
    for point in training.follow("usual_way" if side == USUAL else "engine", workload, run):
        curve.append(point)
        percent, seconds = 100 * point["accuracy"], point["seconds"]
        say(f"epoch {point['epoch']} of {epochs}, {percent:.1f} % right after {seconds:.1f} s")
    if len(curve) < epochs:
        raise UserError(f"these images cannot be trained on by the side {side!r}: its loss is not finite")
    return curve


def seconds_to(target: float, curve: Sequence[Point]) -> float | None:
    """Seconds until the first epoch after which accuracy is the target or more; None if it never is."""
    return next((point["seconds"] for point in curve if point["accuracy"] >= target), None)


def side_report(side: str, workload: Workload, curves: Sequence[Sequence[Point]], target: float) -> dict[str, Any]:
    """What the JSON says of a side. curves: of each round."""
    protocol = workload.protocol
    rates = [protocol.epochs * protocol.train_images / curve[-1]["seconds"] for curve in curves]
    return {
        "side": side,
        "variant": workload.variant,
        "epochs": protocol.epochs,
        "batch_size": protocol.batch_size,
        "precision": "fp32" if side == USUAL else protocol.precision,
        "images_per_s": round(statistics.median(rates), 1),
        "final_accuracy": round(statistics.median(curve[-1]["accuracy"] for curve in curves), 4),
        **median("seconds_to_target", [seconds_to(target, curve) for curve in curves]),
        "curves": curves,
    }


def ratios(sides: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The whole factor and its parts, as the JSON has them."""
    seconds = {side["side"]: side["rounds"] for side in sides}
    for over, under, part, hoped_for in RATIOS:
        values = [a / b if a and b else None for a, b in zip(seconds[over], seconds[under], strict=True)]
        yield {"ratio": f"{over} / {under}", "part": part, **median("value", values), "target": hoped_for}


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """The report as tables."""
    print_machine(console, report["machine"])
    print_load(console, report["load_average_before"])
    percent = 100 * report["target_accuracy"]
    print_table(
        console,
        ("side", "epochs", "images/s", "final %", f"s to {percent:g} %", "in each round"),
        [
            (
                side["side"],
                side["epochs"],
                f"{side['images_per_s']:,.0f}",
                f"{100 * side['final_accuracy']:.1f}",
                "not reached" if side["seconds_to_target"] is None else f"{side['seconds_to_target']:.1f}",
                listed(side["rounds"], 1),
            )
            for side in report["sides"]
        ],
    )
    print_table(
        console,
        ("ratio of seconds", "part", "value", "in each round", "target"),
        [
            (r["ratio"], r["part"], listed([r["value"]], 2), listed(r["rounds"], 2), r["target"] or "")
            for r in report["ratios"]
        ],
    )
    print_note(console, NOTE.format(percent=percent, precision=report["sides"][-1]["precision"], **report))


def listed(values: Sequence[float | None], digits: int) -> str:
    return ", ".join("-" if value is None else f"{value:.{digits}f}" for value in values)
