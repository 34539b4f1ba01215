"""Carrying out one run: build, train, score, commit. What a worker does."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.images.poses import posed_px
from experiments.images.tasks import Task, load_task
from experiments.images.tasks.cache import held
from experiments.networks.network import Network, count_parameters
from experiments.networks.variants import assemble, build_policy, parse_variant
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.code import code_of
from experiments.runs.costs import PeakMemory, count_train_flops, environment, prediction_costs
from experiments.runs.diagnostics import FoundMaps, find_maps
from experiments.runs.evaluation import Evaluation, evaluate, evaluate_on_test
from experiments.runs.images import DeviceImages, channel_statistics, is_posed_anew, posed_anew, split, to_device
from experiments.runs.pictures import before_and_after
from experiments.runs.training import Row, train
from ledger.checksums import SUMS
from ledger.class_scores import auroc, balanced_accuracy, macro_f1
from ledger.config import RESULT_FORMAT, Fit, RunConfig, config_record, protocol_hash, run_key
from ledger.files import to_json
from ledger.ledger import Ledger
from ledger.private_text import without_folders
from ledger.scores import RESULT, UPRIGHT
from ledger.source_code import packed

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED", "std::bad_alloc")
"""How torch's allocator on a CPU (Linux, Windows), CUDA, cuBLAS and cuDNN, and C++ say so."""
WHITENED = 5000
"""Training images at most that whitening goes by."""
MAX_ERROR = 1000
"""Characters of an error that are kept: no reader refuses so many."""


@dataclass(frozen=True)
class Source:
    """Where a worker finds a task.

    task, fit, group: as load_task takes them. cache: folder of decoded images. content_hash: of images that the cache
    has, where they cannot be made from their source; `task` is their task's name then.
    """

    task: str
    label: str
    image_px: int
    cache: Path
    content_hash: str = ""
    fit: Fit = "crop"
    group: str = ""


@dataclass(frozen=True)
class Job:
    """A run, its key, and all that a worker process needs to carry it out."""

    run: RunConfig
    key: str
    source: Source
    ledger: Path


@dataclass
class Outcome:
    """What has become of a run so far. result: RESULT's fields, and the transformer's."""

    status: str = "failed"
    error: str | None = None
    result: dict[str, Any] = field(
        default_factory=lambda: dict.fromkeys((*(score.name for score in RESULT), "transformer"))
    )
    history: list[Row] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    train_seconds: float = 0.0

    def images_per_s(self) -> float | None:
        """Training images seen in whole epochs, over the seconds of the training loop, validation included."""
        if not self.train_seconds:
            return None
        return round(self.result["num_train_images"] * len(self.history) / self.train_seconds, 1)


@lru_cache(maxsize=1)
def _load(source: Source) -> Task:
    task, label, cache = source.task, source.label, source.cache
    if not source.content_hash:
        return load_task(
            task,
            image_px=source.image_px,
            fit=source.fit,
            cache=cache,
            say=lambda line: None,
            label=label,
            group=source.group,
        )
    images = held(source.content_hash, cache)
    if images is None:
        raise ValueError(f"{label}: the images have gone from the cache")
    return Task(task, label, *images)


@lru_cache(maxsize=2)
def _train_images(source: Source, pose: str, device: torch.device) -> DeviceImages:
    """The training part stays on the device between a worker's runs."""
    return to_device(_load(source).train, pose, device, part="train")


def make_run(
    job: Job, device: torch.device, on_epoch: Callable[[Row], None] | None = None, *, is_last: bool = True
) -> str:
    """Make the run and commit it to the ledger, unless it is there; returns its key.

    A run that was begun and killed goes on from its last checkpoint.
    on_epoch: called after each whole epoch with its row; those before the checkpoint are told again.
    is_last: no other attempt will be made.
    Whatever stops a run short of a bad configuration is a result: it is committed with its own status.
    Raises UserError for a configuration that cannot be built, ValueError if the images changed meanwhile, and
    MemoryError where memory runs out before there is a result to commit, or where another attempt may have more.
    """
    ledger = Ledger(job.ledger)
    if job.key in ledger:
        return job.key
    task = _load(job.source)
    code_of(job.run, job.source.cache)  # as it is now: it may be edited while the run is made
    if run_key(job.run, task.content_hash) != job.key:
        raise ValueError(f"{task.label}: the images have changed since the study began")

    curve: list[float | int | None] = []

    def mark(row: Row) -> None:
        run = job.run
        what = {"variant": run.variant, "pose": run.pose, "seed": run.seed, "stage": run.stage}
        size = {"train_images": run.protocol.train_images, "epochs": run.protocol.epochs}
        setting = {"optim": dataclasses.asdict(run.optim), "model": run.model, "policy": run.policy}
        if row["epoch"]:
            curve.append(row["train_accuracy"] if row["val_accuracy"] is None else row["val_accuracy"])
        progress = {**what, **size, **setting, "curve": curve, "history": outcome.history, **row}
        ledger.mark_running(job.key, progress)
        if on_epoch and row["epoch"]:
            on_epoch(row)

    start, memory = time.perf_counter(), PeakMemory(device)
    outcome = Outcome()
    checkpoints = Checkpoints(ledger.checkpoints(job.key), job.key, device)
    mark({"epoch": 0})
    try:
        pool = _train_images(job.source, job.run.pose, device)
        train_and_score(job.run, task, pool, outcome, mark, checkpoints)
    except (MemoryError, RuntimeError) as problem:
        line = f"{type(problem).__name__}: {problem}".splitlines()[0]
        outcome.status, outcome.error = "failed", without_folders(line)
        if is_out_of_memory(problem):
            if not is_last:
                raise MemoryError from problem
            outcome.error = out_of_memory(device)
    cost = {
        "train_seconds": round(outcome.train_seconds, 3),
        "seconds": round(checkpoints.earlier_s + time.perf_counter() - start, 3),
        "images_per_s": outcome.images_per_s(),
        "peak_memory_mib": round(memory.mib(), 1),
    }
    ledger.commit(job.key, _files(job, task, outcome, cost, device))
    return job.key


def out_of_memory(device: torch.device) -> str:
    """The error of a run that had too little memory: the same text, however little."""
    return f"out of memory on {device.type}"


def is_out_of_memory(problem: Exception) -> bool:
    """Whether memory ran out: torch has an exception of its own for that, which only some of its allocators raise."""
    return isinstance(problem, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(problem) for words in OUT_OF_MEMORY
    )


def failed_run_files(job: Job, task: Task, error: str) -> dict[str, bytes]:
    """The files of a run whose worker could not say itself what happened."""
    cost = dict.fromkeys(("train_seconds", "seconds", "images_per_s", "peak_memory_mib"))
    return _files(job, task, Outcome(error=error), cost, torch.device(job.run.protocol.device))


def _files(
    job: Job, task: Task, outcome: Outcome, cost: Mapping[str, float | None], device: torch.device
) -> dict[str, bytes]:
    code = packed(code_of(job.run, job.source.cache))
    about = environment(device, *filter(None, [parse_variant(job.run.variant).library]))
    measured = to_json({**cost, **about, "code": code, "sums": SUMS})
    return {**record_files(job, task, outcome), "cost.json": measured}


def begun_record(job: Job, task: Task) -> dict[str, Any]:
    """What run.json will say of a run that begins, as far as that is known."""
    return {
        "key": job.key,
        "config": config_record(job.run),
        "task": task.record(),
        "protocol_hash": protocol_hash(job.run.protocol),
    }


def record_files(job: Job, task: Task, outcome: Outcome) -> dict[str, bytes]:
    """The files of a run's folder that are the same bytes on every repetition."""
    record = {
        "format": RESULT_FORMAT,
        "key": job.key,
        "status": outcome.status,
        "error": outcome.error and outcome.error[:MAX_ERROR],
        **begun_record(job, task),
        "result": outcome.result,
    }
    return {"run.json": to_json(record), "history.json": to_json(outcome.history), **outcome.files}


def train_and_score(
    run: RunConfig,
    task: Task,
    pool: DeviceImages,
    outcome: Outcome,
    report: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train the run's network on its share of the pool and score it; fills the outcome as it goes.

    pool: the task's training part, under the run's pose, on the device that trains.
    """
    device = pool.labels_N.device
    policy = build_policy(parse_variant(run.variant), run.policy)
    train_N, val_N = split(pool.labels_N.cpu(), run.protocol, run.seed, task.train.group_N)
    images = pool.subset(train_N.to(device))
    if is_posed_anew(run.pose, policy):
        images = posed_anew(images, task.train, train_N, run.pose)
    val_images = pool.subset(val_N.to(device)) if len(val_N) else None
    network = untrained_network(run, images, len(task.classes))
    result = outcome.result
    result["num_train_images"], result["num_val_images"] = len(images), len(val_N)
    result["num_parameters"] = count_parameters(network)
    image_px = posed_px(run.pose, run.protocol.image_px)
    flops_per_image = count_train_flops(network, image_px)

    def after_epoch(row: Row) -> None:
        outcome.history.append(row)
        result["epochs"] = row["epoch"]
        result["train_flops"] = flops_per_image * len(images) * len(outcome.history)
        result["val_accuracy"], result["val_loss"] = row["val_accuracy"], row["val_loss"]
        report(row)

    start = time.perf_counter()
    try:
        outcome.status = train(network, policy, images, val_images, run, after_epoch, checkpoints)
    finally:
        outcome.train_seconds = time.perf_counter() - start + (checkpoints.earlier_s if checkpoints else 0)
    if outcome.status != "completed":
        return
    precision = run.protocol.precision
    if val_images is not None:
        result["val_class_accuracy"] = evaluate(network, val_images, precision).class_accuracy
    if picture := before_and_after(network, val_images or images):
        outcome.files["transformer.png"] = picture
    if run.stage == "trial":
        result["transformer"] = described(find_maps(network, val_images or images, precision))
        return
    evaluation = evaluate_on_test(network, task, run, device)
    if evaluation is None:  # the last step broke the weights, and no validation images saw it
        outcome.status = "diverged"
        return
    # All of it before any of it counts: a run that fails here has no test scores.
    files = {"weights.safetensors": _saved(network.state_dict()), **evaluation_files(evaluation)}
    costs = prediction_costs(network, image_px)
    scores = {**costs, **test_scores(evaluation), "transformer": described(evaluation.maps)}
    outcome.files |= files
    result |= scores


def untrained_network(run: RunConfig, images: DeviceImages, num_classes: int) -> Network:
    """The run's network as its training starts, where the images are; it normalises and whitens by them."""
    device = images.labels_N.device
    network = assemble(run, num_classes, *channel_statistics(images))
    network.whiten(images.raw(torch.arange(min(WHITENED, len(images)), device=device)).cpu())
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def described(maps: FoundMaps | None) -> dict[str, Any] | None:
    """What run.json's `result` says of the transformer."""
    return dataclasses.asdict(maps.describe()) if maps else None


def test_scores(evaluation: Evaluation) -> dict[str, Any]:
    """What run.json's `result` says of the test part."""
    scores, answers, upright = evaluation.scores, evaluation.answers, evaluation.upright
    label_N, predicted_N, probability_NK = (
        each.cpu().numpy() for each in (answers.label_N, answers.predicted_N, answers.probability_NK)
    )
    return {
        "num_test_images": scores.num_images,
        "test_accuracy": scores.accuracy,
        "test_loss": scores.loss,
        "test_class_accuracy": scores.class_accuracy,
        "test_balanced_accuracy": balanced_accuracy(label_N, predicted_N),
        "test_macro_f1": macro_f1(label_N, predicted_N),
        "test_auroc": auroc(label_N, probability_NK),
        "test_ece": evaluation.ece,
        **(evaluation.robustness.summary() if evaluation.robustness else {}),
        **({UPRIGHT.name: upright.scores(len(scores.class_accuracy)).accuracy} if upright else {}),
    }


def evaluation_files(evaluation: Evaluation) -> dict[str, bytes]:
    """Predictions, robustness and maps as files, as far as there are any."""
    answers = evaluation.answers
    tensors = {
        "label": answers.label_N.short(),
        "predicted": answers.predicted_N.short(),
        "confidence": answers.confidence_N,
        "label_probability": answers.label_probability_N,
    }
    if evaluation.upright:
        tensors["upright_predicted"] = evaluation.upright.predicted_N.short()
    files = {"predictions.safetensors": _saved(tensors)}
    if evaluation.robustness:
        files["robustness.json"] = to_json(dataclasses.asdict(evaluation.robustness))
    if evaluation.maps:
        theta_HN23, true_theta_N23 = evaluation.maps.closest_affine()
        files["maps.safetensors"] = _saved({"theta": theta_HN23.float(), "true_theta": true_theta_N23.float()})
    return files


def _saved(tensors: dict[str, Tensor]) -> bytes:
    import safetensors.torch  # what only trains does without

    return safetensors.torch.save({name: value.cpu().contiguous() for name, value in tensors.items()})
