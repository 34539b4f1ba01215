"""Scores: how a trained network does on images it was not trained on. The one place that reads the test part.

Legend: N images, B images of a batch, C channels, H rows, W columns, K classes, M bins of confidence.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.images.tasks import Task
from experiments.machine.device import autocast
from experiments.networks.network import Network
from experiments.runs.diagnostics import FoundMaps, find_maps
from experiments.runs.images import DeviceImages, to_device
from experiments.runs.robustness import Robustness, measure_robustness
from ledger.config import RunConfig

BATCH_SIZE = 256
"""A CPU is slower at larger batches, whose features leave its caches."""
NUM_BINS = 15


@dataclass(frozen=True)
class Scores:
    """loss: mean negative log-likelihood in nats, without label smoothing. Accuracies are fractions; a class
    without images has None."""

    accuracy: float
    loss: float
    num_images: int
    class_accuracy: list[float | None]


@dataclass(frozen=True)
class Answers:
    """What a network says of each image, in the images' own order.

    predicted_N: classes, int64. probability_NK: of each class, float32. loss: mean negative log-likelihood in nats.
    """

    label_N: Tensor
    predicted_N: Tensor
    probability_NK: Tensor
    loss: float

    @property
    def confidence_N(self) -> Tensor:
        """Probability of the predicted class."""
        return self.probability_NK.gather(1, self.predicted_N[:, None])[:, 0]

    @property
    def label_probability_N(self) -> Tensor:
        return self.probability_NK.gather(1, self.label_N[:, None])[:, 0]

    def scores(self, num_classes: int) -> Scores:
        hits_K = self.label_N[self.predicted_N == self.label_N].bincount(minlength=num_classes).tolist()
        totals_K = self.label_N.bincount(minlength=num_classes).tolist()
        return Scores(
            accuracy=sum(hits_K) / len(self.label_N),
            loss=self.loss,
            num_images=len(self.label_N),
            class_accuracy=[hits / total if total else None for hits, total in zip(hits_K, totals_K, strict=True)],
        )


@torch.inference_mode()
def ask(network: Network, images: DeviceImages, precision: str) -> Answers:
    """What the network says of all the images, in evaluation mode."""
    network.eval()
    device = images.labels_N.device
    loss_sum = torch.zeros((), dtype=torch.float64, device="cpu")
    predicted, probabilities = [], []
    for labels_B, batch in images.batches(network.num_draws, BATCH_SIZE):
        with autocast(device, precision):
            logits_BK = network(batch).float()
        loss_sum += F.cross_entropy(logits_BK, labels_B, reduction="sum").cpu()
        predicted.append(logits_BK.argmax(1))
        probabilities.append(logits_BK.softmax(1))
    place_N = images.order().argsort()
    return Answers(
        label_N=images.labels_N,
        predicted_N=torch.cat(predicted)[place_N],
        probability_NK=torch.cat(probabilities)[place_N],
        loss=loss_sum.item() / len(images),
    )


def evaluate(network: Network, images: DeviceImages, precision: str) -> Scores:
    """Scores of the network on all the images, in evaluation mode."""
    return ask(network, images, precision).scores(network.num_classes)


def calibration_error(confidence_N: Tensor, correct_N: Tensor) -> float:
    """Expected calibration error: mean distance of accuracy from confidence in 15 equal bins, weighted by their images.

    Bin m holds confidences above (m - 1) / 15 and up to m / 15.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, equations 2 and 3 and section 5.
    """
    bin_N = (confidence_N.double() * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
    # The sums of a bin's differences: dividing by its number of images and weighing by it cancel.
    gap_M = torch.zeros(NUM_BINS, dtype=torch.float64, device=bin_N.device)
    gap_M = gap_M.index_add(0, bin_N, correct_N.double() - confidence_N.double())
    return gap_M.abs().sum().item() / len(bin_N)


@dataclass(frozen=True)
class Evaluation:
    """What a final run knows of the test part. ece: expected calibration error. maps: None without a transformer;
    robustness: None if the protocol asks for none.

    upright: what it says of the test images in the pose of the training images, in the same order, where all else is of
    images in another one; else None.
    """

    scores: Scores
    ece: float
    answers: Answers
    maps: FoundMaps | None
    robustness: Robustness | None
    upright: Answers | None = None


def evaluate_on_test(network: Network, task: Task, run: RunConfig, device: torch.device) -> Evaluation | None:
    """What the network does on the test part: once, at the end of a final run. None if its loss is not a number.

    Raises ValueError for any other run.
    """
    if run.stage == "trial":
        raise ValueError(f"a {run.stage} may not read the test part")
    protocol = run.protocol
    images = to_device(task.test, run.test_pose or run.pose, device, part="test", num=protocol.test_images)
    answers = ask(network, images, protocol.precision)
    if not math.isfinite(answers.loss):
        return None
    upright = None
    if run.test_pose:
        as_trained = to_device(task.test, run.pose, device, part="test", num=protocol.test_images)
        upright = ask(network, as_trained, protocol.precision)
    # On the CPU, in one order: the same sum on every repetition.
    confidence_N, correct_N = answers.confidence_N.cpu(), (answers.predicted_N == answers.label_N).cpu()
    return Evaluation(
        scores=answers.scores(network.num_classes),
        ece=calibration_error(confidence_N, correct_N),
        answers=answers,
        maps=find_maps(network, images, protocol.precision),
        robustness=measure_robustness(network, images, protocol),
        upright=upright,
    )
