"""Scores: how a trained network does on images it was not trained on. The one place that reads the test part.

Legend: B images of a batch, C channels, H rows, W columns, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from experiments.config import RunConfig
from experiments.device import autocast
from experiments.diagnostics import Diagnosis, diagnose
from experiments.images import DeviceImages, to_device
from experiments.network import Network
from experiments.tasks import Task

BATCH_SIZE = 1000


@dataclass(frozen=True)
class Scores:
    """loss: mean negative log-likelihood in nats, without label smoothing. Accuracies are fractions; a class
    without images has None."""

    accuracy: float
    loss: float
    num_images: int
    class_accuracy: list[float | None]


@torch.inference_mode()
def evaluate(network: Network, images: DeviceImages, precision: str, num_draws: int = 0) -> Scores:
    """Scores of the network on all the images, in evaluation mode. num_draws: as of its model."""
    network.eval()
    device = images.labels_N.device
    num_classes = network.num_classes
    loss_sum = torch.zeros((), dtype=torch.float64, device="cpu")
    hits_K = torch.zeros(num_classes, dtype=torch.int64, device=device)
    for labels_B, batch in images.batches(num_draws, BATCH_SIZE):
        with autocast(device, precision):
            logits_BK = network(batch).float()
        loss_sum += F.cross_entropy(logits_BK, labels_B, reduction="sum").cpu()
        hits_K += labels_B[logits_BK.argmax(1) == labels_B].bincount(minlength=num_classes)
    hits = hits_K.tolist()
    totals = images.labels_N.bincount(minlength=num_classes).tolist()
    return Scores(
        accuracy=sum(hits) / len(images),
        loss=loss_sum.item() / len(images),
        num_images=len(images),
        class_accuracy=[hit / total if total else None for hit, total in zip(hits, totals, strict=True)],
    )


def evaluate_on_test(
    network: Network, task: Task, run: RunConfig, device: torch.device, num_draws: int = 0
) -> tuple[Scores, Diagnosis | None]:
    """Scores on the test part, and what the transformer does there: once, at the end of a final run.

    Raises ValueError for any other run.
    """
    if run.stage != "final":
        raise ValueError(f"a {run.stage} may not read the test part")
    images = to_device(task.test, run.pose, device, part="test", num=run.protocol.test_images)
    scores = evaluate(network, images, run.protocol.precision, num_draws)
    return scores, diagnose(network, images, run.protocol.precision, num_draws)
