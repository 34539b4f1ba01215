"""The parts of the check. Each runs in a process of its own (clock.py) and tells what it finds as soon as it does."""

import dataclasses
import platform
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, cast

import torch

from benchmarks.engine import Engine, epoch_rate, new_network
from benchmarks.gpu_check.clock import Asked, LeftOut
from benchmarks.machine import PRECISIONS, describe, matrix_rate
from benchmarks.remote import Remote, call_all
from benchmarks.workloads import Workload
from experiments.images.tasks import load_task
from experiments.images.tasks.cache import cache_folder
from experiments.machine.device import prepare_device
from experiments.runs.costs import count_train_flops
from experiments.runs.evaluation import evaluate_on_test
from experiments.runs.images import to_device
from experiments.runs.run import Outcome, train_and_score, untrained_network
from ledger.config import Optim, Protocol, RunConfig
from ledger.errors import UserError
from ledger.wording import count

ROOT = Path(__file__).parents[2]
VARIANT = "cnn+flip_crop"
"""Mirrored and shifted images."""
MIRRORED = "cnn_tta:num_turns=1:mirrored=true+flip_crop"
"""VARIANT in training; in evaluation the mean of an image's and its mirror image's probabilities."""


@dataclass(frozen=True)
class Sizes:
    """seconds: of each figure of speed. num_images: of noise, in an epoch of each worker. train_images, test_images: 0
    for all. targets: test accuracies, and with how many epochs they are tried for, one after the other. matrices: rows;
    those that suit the device if none are given."""

    seconds: float
    widths: tuple[float, ...]
    workers: tuple[int, ...]
    num_images: int
    train_images: int
    test_images: int
    precision_epochs: int
    target_width: float
    targets: tuple[tuple[float, tuple[int, ...]], ...]
    matrices: tuple[int, ...] = ()


FULL = Sizes(4.0, (1, 4), (1, 2, 4, 8), 12800, 0, 0, 2, 4, ((0.80, (1, 2, 3)), (0.94, (8, 10, 12, 16))))
QUICK = Sizes(0.02, (0.25,), (1, 2), 768, 200, 100, 1, 0.25, ((0.01, (1, 2)), (1.01, (1,))), (256,))


def sizes_of(asked: Asked) -> Sizes:
    return QUICK if asked.quick else FULL


def faster(asked: Asked) -> Literal["fp32", "bf16"]:
    return "bf16" if asked.device == "cuda" else "fp32"


def machine(asked: Asked) -> None:
    facts = describe(torch.device(asked.device))
    python, cores = platform.python_version(), facts["cores"]
    text = f"{facts['device_name']}, {cores} cores, Python {python}, torch {torch.__version__}"
    if asked.device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        facts |= {
            "gpus": torch.cuda.device_count(),
            "memory_gib": round(gpu.total_memory / 2**30, 1),
            "multiprocessors": gpu.multi_processor_count,
            "capability": f"{gpu.major}.{gpu.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
        text += f", CUDA {facts['cuda']}, {facts['memory_gib']} GiB, {facts['multiprocessors']} multiprocessors"
    asked.tell("machine", text, **facts)


def images(asked: Asked) -> None:
    """Decoded into the cache, where the parts that come after find them."""
    spec = f"folder:{asked.data}" if asked.data else "cifar10"
    try:
        task = load_task(spec, image_px=Protocol().image_px, cache=cache_folder(), say=lambda line: None)
    except (UserError, ImportError) as error:
        if asked.data:
            raise
        raise LeftOut(f"{error}; name a folder of real images: DATA=path/to/images") from None
    text = f"{task.label}: {len(task.train):,} training and {task.num_test_images:,} test images"
    num = {"train_images": len(task.train), "test_images": task.num_test_images, "classes": len(task.classes)}
    asked.tell("task", text, spec=spec, label=task.label, content_hash=task.content_hash, **num)


def correctness(asked: Asked) -> None:
    import pytest

    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [path for path in tests if "mark.gpu" in path.read_text(encoding="utf-8")]
    recorder = Recorder(asked)
    # Without the project's own options, which ask for pytest's plugins.
    options = ("-m", "gpu", "-o", "addopts=", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml")
    status = pytest.main([*map(str, (*options, f"--rootdir={ROOT}", *files))], plugins=[recorder])
    recorder.finish()
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        raise RuntimeError(f"pytest ended with status {int(status)}")


class Recorder:
    """pytest's plugin that tells what becomes of each test, and stops it when the time is up."""

    def __init__(self, asked: Asked) -> None:
        self.asked, self.num_tests = asked, 0
        self.counts = Counter(passed=0, failed=0, skipped=0)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.tell_failure(report)

    def pytest_collection_finish(self, session: Any) -> None:
        self.session, self.num_tests = session, len(session.items)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.tell_failure(report)
        elif report.when == "call" or report.skipped:
            self.counts[report.outcome] += 1
        self.asked.tell("tests", "", **self.counts, not_run=self.num_not_run())

    def pytest_runtest_logfinish(self) -> None:
        if self.asked.left_s() <= 0:
            self.session.shouldstop = "the time is up"

    def tell_failure(self, report: Any) -> None:
        self.counts["failed"] += 1
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = (crash.message if crash else str(report.longrepr)).strip().splitlines() or [""]
        first = next((line.removeprefix("E ").strip() for line in lines if line.startswith("E ")), lines[0])
        self.asked.tell(report.nodeid, f"failed: {report.nodeid}: {first}", said=first)

    def num_not_run(self) -> int:
        return max(0, self.num_tests - self.counts.total())

    def finish(self) -> None:
        """Tell the sum of it. Raises RuntimeError if a test failed."""
        left = self.num_not_run()
        text = ", ".join(f"{number} {outcome}" for outcome, number in self.counts.items())
        self.asked.tell("tests", text, **self.counts, not_run=left)
        if left:
            self.asked.leave_out(f"{left} of {self.num_tests} tests")
        if failed := self.counts["failed"]:
            raise RuntimeError(f"{failed} of {self.num_tests} tests failed")


class Trainer:
    """Trains on a task's images and scores on its test images, as a final run does."""

    def __init__(self, asked: Asked) -> None:
        self.device, self.sizes = torch.device(asked.device), sizes_of(asked)
        prepare_device(self.device)
        self.task = load_task(asked.task or "sprites", image_px=32, cache=cache_folder(), say=lambda line: None)
        self.pool = to_device(self.task.train, "upright", self.device, part="train")

    def train(self, epochs: int, width: float, precision: str, train_images: int = 0) -> tuple[RunConfig, Outcome]:
        """Raises RuntimeError where training diverges."""
        protocol = Protocol(
            train_images=train_images or self.sizes.train_images,
            val_images=0,
            test_images=self.sizes.test_images,
            epochs=epochs,
            width=width,
            precision=cast(Literal["fp32", "bf16"], precision),
            device=cast(Literal["cpu", "cuda"], self.device.type),
            robustness="none",
        )
        run, outcome = RunConfig(variant=VARIANT, protocol=protocol), Outcome()
        train_and_score(run, self.task, self.pool, outcome, lambda row: None)
        if outcome.status != "completed":
            raise RuntimeError(f"training with width {width:g} in {precision} {outcome.status}")
        return run, outcome

    def warm_up(self, width: float, precision: str) -> None:
        """A few steps that are not timed: libraries load, and choose their kernels."""
        self.train(1, width, precision, train_images=min(3 * Protocol().batch_size, len(self.pool)))

    def mirrored_accuracy(self, run: RunConfig, outcome: Outcome) -> float:
        """The trained network's when it is shown each image and its mirror image."""
        import safetensors.torch

        mirrored = dataclasses.replace(run, variant=MIRRORED)
        network = untrained_network(mirrored, self.pool, len(self.task.classes))
        network.load_state_dict(safetensors.torch.load(outcome.files["weights.safetensors"]))
        evaluation = evaluate_on_test(network, self.task, mirrored, self.device)
        if evaluation is None:
            raise RuntimeError("the loss on the test images is not a number")
        return evaluation.scores.accuracy


def figures(run: RunConfig, outcome: Outcome) -> dict[str, Any]:
    """What a training cost and came to. seconds: of the training loop."""
    epochs, seconds = run.protocol.epochs, outcome.train_seconds
    return {
        "epochs": epochs,
        "seconds": round(seconds, 6),
        "images_per_s": round(outcome.result["num_train_images"] * epochs / seconds, 1),
        "test_accuracy": outcome.result["test_accuracy"],
        "train_flops": outcome.result["train_flops"],
        "pflop_per_s": outcome.result["train_flops"] / seconds / 1e15,
    }


def precision(asked: Asked) -> None:
    sizes, trainer, last_s = sizes_of(asked), Trainer(asked), 0.0
    for width in sizes.widths:
        by_precision = {}
        for name in PRECISIONS:
            what = f"{name} at width {width:g}"
            if asked.left_s() < 1.2 * last_s:
                asked.leave_out(what)
                continue
            start_s = time.monotonic()
            trainer.warm_up(width, name)
            values = by_precision[name] = figures(*trainer.train(sizes.precision_epochs, width, name))
            last_s = time.monotonic() - start_s
            text = f"{values['images_per_s']:,.0f} images/s, {percent(values['test_accuracy'])} right"
            asked.tell(what, f"{what}, {trainer.task.label}: {text}", task=trainer.task.label, **values)
        if len(by_precision) == len(PRECISIONS):
            fp32, bf16 = by_precision["fp32"], by_precision["bf16"]
            ratio = round(bf16["images_per_s"] / fp32["images_per_s"], 3)
            difference = round(bf16["test_accuracy"] - fp32["test_accuracy"], 5)
            text = f"bf16 at width {width:g}: {ratio:.2f} x as fast, {100 * difference:+.2f} points"
            asked.tell(f"width {width:g}", text, speed_ratio=ratio, accuracy_difference=difference)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def matrix(asked: Asked) -> None:
    device, sizes = torch.device(asked.device), sizes_of(asked)
    prepare_device(device)
    for name in PRECISIONS:
        rate = matrix_rate(device, name, seconds=sizes.seconds / 2, sizes=sizes.matrices)
        asked.tell(name, f"{name}: {rate / 1000:,.4g} TFLOP/s", gflops_per_s=round(rate, 1))


def workers(asked: Asked) -> None:
    """On noise, whose speed is that of pictures, all on the first GPU."""
    device, sizes, last_s = torch.device(asked.device), sizes_of(asked), 0.0
    gpu = torch.device("cuda", 0) if device.type == "cuda" else device
    name = faster(asked)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stn-bench-")))
        engines = [stack.enter_context(Remote(Engine, gpu, sizes.num_images, folder)) for _ in range(sizes.workers[-1])]
        call_all(engines, "ready")
        for width in sizes.widths:
            workload = Workload("", VARIANT, Protocol(val_images=0, width=width, precision=name), Optim())
            flops = count_train_flops(new_network(workload, torch.device("cpu")), workload.protocol.image_px)
            alone = 0.0
            for number in sizes.workers:
                what = f"{count(number, 'worker')} at width {width:g}"
                if asked.left_s() < 1.5 * last_s:
                    asked.leave_out(what)
                    continue
                start_s = time.monotonic()
                rate = epoch_rate(engines[:number], workload, sizes.num_images, 1)  # also warms up
                epochs = max(1, round(sizes.seconds * rate / (number * sizes.num_images)))
                rate = epoch_rate(engines[:number], workload, sizes.num_images, epochs)
                last_s, alone = time.monotonic() - start_s, alone or rate
                values: dict[str, Any] = {"images_per_s": round(rate, 1), "times_one_worker": round(rate / alone, 3)}
                values |= {"precision": name, "width": width, "workers": number, "train_flops_per_image": flops}
                share = share_of_matrix(asked, name, rate * flops, values)
                text = f"{what}, {name}: {rate:,.0f} images/s, {rate / alone:.2f} x one worker{share}"
                asked.tell(what, text, **values)


def share_of_matrix(asked: Asked, name: str, flop_per_s: float, values: dict[str, Any]) -> str:
    """For people, and into the values; "" where the rate of matrix products was not measured."""
    if name not in asked.matrix:
        return ""
    values["share_of_matrix_rate"] = round(flop_per_s / 1e9 / asked.matrix[name], 4)
    return f", {percent(values['share_of_matrix_rate'])} of the {name} matrix rate"


def accuracy(asked: Asked) -> None:
    if not asked.task:
        raise LeftOut("no real images; name a folder of them: DATA=path/to/images")
    sizes, trainer, name, epoch_s = sizes_of(asked), Trainer(asked), faster(asked), 0.0
    trainer.warm_up(sizes.target_width, name)
    for target, schedules in sizes.targets:
        tried: list[dict[str, Any]] = []
        for epochs in schedules:
            what = f"{target:.0%} with {count(epochs, 'epoch')}"
            if asked.left_s() < 1.1 * epochs * epoch_s:
                asked.leave_out(what)
                break
            start_s = time.monotonic()
            run, outcome = trainer.train(epochs, sizes.target_width, name)
            values = {**figures(run, outcome), "mirrored_accuracy": trainer.mirrored_accuracy(run, outcome)}
            epoch_s = (time.monotonic() - start_s) / epochs
            tried.append(values)
            one, two = percent(values["test_accuracy"]), percent(values["mirrored_accuracy"])
            text = (
                f"{count(epochs, 'epoch')} at width {sizes.target_width:g}, {name}: {one}, of two mirrored views "
                f"{two}; {values['seconds']:.2f} s of training, {values['train_flops'] / 1e15:.4g} PFLOP, "
                f"{values['pflop_per_s']:.3g} PFLOP/s"
            )
            text += share_of_matrix(asked, name, 1e15 * values["pflop_per_s"], values)
            asked.tell(what, text, **values)
            if min(values["test_accuracy"], values["mirrored_accuracy"]) >= target:
                break
        if tried:
            one_view, two_views = (reached(tried, target, score) for score in ("test_accuracy", "mirrored_accuracy"))
            text = f"to {target:.0%}: {effort(one_view)}; of two mirrored views: {effort(two_views)}"
            asked.tell(f"{target:.0%}", text, target=target, one_view=one_view, two_views=two_views)


def reached(tried: list[dict[str, Any]], target: float, score: str) -> dict[str, Any]:
    """The first training that came to the target, or by how much the best one missed it."""
    best = next((values for values in tried if values[score] >= target), max(tried, key=itemgetter(score)))
    missed = max(0.0, round(target - best[score], 5))
    return {"seconds": best["seconds"], "epochs": best["epochs"], "accuracy": best[score], "missed_by": missed}


def effort(training: dict[str, Any]) -> str:
    text = f"{training['seconds']:.2f} s ({count(training['epochs'], 'epoch')})"
    return f"missed by {100 * training['missed_by']:.2f} points with {text}" if training["missed_by"] else text
