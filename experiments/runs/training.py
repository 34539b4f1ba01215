"""The training loop: one code path for CPU and GPU, no DataLoader, no per-image Python.

Legend: N training images, B images of a batch, C channels, H rows, W columns, K uniform numbers an image, X logits,
one a class.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from baselines.composition import Composition
from baselines.policies import Alternating, Policy
from experiments.images.draws import permutation, seed_of, uniform
from experiments.machine.device import autocast
from experiments.machine.heartbeat import beat
from experiments.networks.models.cnn_recipe import CnnRecipe
from experiments.networks.network import Batch, Network
from experiments.networks.variants import build_model, parse_variant
from experiments.runs.averaging import AVERAGE_EVERY, Averages
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.evaluation import evaluate
from experiments.runs.images import DeviceImages
from experiments.runs.optimiser import Optimiser
from experiments.runs.schedule import lr_share
from experiments.runs.training_state import Row as Row
from experiments.runs.training_state import TrainingState
from ledger.config import RunConfig, num_steps
from stn.sampler import warp


def train(
    network: Network,
    policy: Policy,
    images: DeviceImages,
    val_images: DeviceImages | None,
    run: RunConfig,
    report: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
) -> str:
    """Train the network in place, on the device where it and the images are: completed, pruned or diverged.

    report: called after each whole epoch with its row; those of a checkpoint are told again.
    checkpoints: where to go on from, and where to keep what training knows between epochs.
    A loss that is not finite stops the run before the optimiser steps.
    """
    device = images.labels_N.device
    model = build_model(parse_variant(run.variant), run.model)
    protocol = model.train_under(run.protocol) if isinstance(model, CnnRecipe) else run.protocol
    optimiser = Optimiser(network, protocol, run.optim, model.lr_factors())
    total_steps = num_steps(len(images), protocol.batch_size, protocol.epochs)
    averages = Averages(network) if protocol.averaging else None
    weight_X = class_weights(images.labels_N, network.num_classes) if protocol.class_weights == "balanced" else None
    loss_function = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
    weighted_loss = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing, reduction="none")
    diverged = torch.zeros((), dtype=torch.bool, device=device)

    state = TrainingState(network, optimiser, averages)
    if checkpoints:
        any(state.take_up(checkpoint) for checkpoint in checkpoints.found())
    for row in state.rows:
        report(row)
    for epoch in range(len(state.rows) + 1, protocol.epochs + 1):
        torch.manual_seed(seed_of(run.seed, epoch, "dropout"))
        index_N = torch.arange(len(images), device=device)
        order_N = permutation(index_N, seed=run.seed, epoch=epoch, purpose="order")
        shown_NK = draws(policy, order_N, seed=run.seed, epoch=epoch)
        drawn_NK = uniform(order_N, network.num_draws, seed=run.seed, epoch=epoch, purpose="model")
        size = protocol.batch_size
        loss_sum = torch.zeros((), device=device)
        num_correct = torch.zeros((), dtype=torch.int64, device=device)
        network.train()
        for index_B, shown_BK, drawn_BK in zip(
            order_N.split(size), shown_NK.split(size), drawn_NK.split(size), strict=True
        ):
            beat()
            labels_B = images.labels_N[index_B]
            raw_BCHW, poses = images.in_training(index_B, seed=run.seed, epoch=epoch)
            x_BCHW = augment(raw_BCHW, policy, shown_BK)
            batch = Batch(x_BCHW, poses, drawn_BK, state.num_done / total_steps, labels_B)
            with autocast(device, protocol.precision):
                logits_BX, penalty = network.logits_and_penalty(batch)
            if weight_X is None:
                classification = loss_function(logits_BX.float(), labels_B)
            else:  # of images: torch's weights of classes weigh the smoothing by the classes that an image is not of
                classification = (weight_X[labels_B] * weighted_loss(logits_BX.float(), labels_B)).mean()
            loss = classification if penalty is None else classification + penalty
            optimiser.zero_grad()
            loss.backward()
            # The flag stays on the device and makes every later step do nothing: checking it here would stall a GPU.
            diverged |= ~loss.detach().isfinite()
            share = lr_share(protocol.schedule, state.num_done, total_steps)
            optimiser.step(share, diverged)
            state.num_done += 1
            if averages and state.num_done % AVERAGE_EVERY == 0:
                averages.pull(state.num_done / total_steps)
            loss_sum += classification.detach() * len(labels_B)
            num_correct += (logits_BX.detach().argmax(1) == labels_B).sum()
        if diverged.item():
            return "diverged"
        row = {
            "epoch": epoch,
            "lr": share * run.optim.lr,
            "train_loss": loss_sum.item() / len(images),
            "train_accuracy": num_correct.item() / len(images),
            "val_loss": None,
            "val_accuracy": None,
        }
        if val_images is not None:
            scores = evaluate(network, val_images, protocol.precision)
            if not math.isfinite(scores.loss):
                return "diverged"
            row |= {"val_loss": scores.loss, "val_accuracy": scores.accuracy}
        state.rows.append(row)
        report(row)
        if should_prune(row, run.prune_below) and epoch < protocol.epochs:
            return "pruned"
        if checkpoints and epoch < protocol.epochs and checkpoints.due():
            checkpoints.keep(state.checkpoint())
    return "completed"


def class_weights(labels_N: Tensor, num_classes: int) -> Tensor:
    """What an image of each class counts, (X,), so that all classes that there are count the same; 1 on average."""
    num_X = labels_N.bincount(minlength=num_classes).float()
    weight_X = len(labels_N) / (num_X.count_nonzero() * num_X)
    return torch.where(num_X > 0, weight_X, 0.0)


def draws(policy: Policy, index_N: Tensor, *, seed: int, epoch: int, purpose: str = "augment") -> Tensor:
    """The uniform numbers that a policy needs for these images in this epoch, (N, num_draws)."""
    if isinstance(policy, Composition):
        # By name: what a policy draws depends neither on the others nor on their order.
        parts = ((part, f"{purpose} {name}") for name, part in policy.parts.items())
        return torch.cat([draws(part, index_N, seed=seed, epoch=epoch, purpose=own) for part, own in parts], dim=1)
    shown_NK = uniform(index_N, policy.num_draws, seed=seed, epoch=epoch, purpose=purpose)
    if isinstance(policy, Alternating) and policy.num_alternating:
        first_NK = uniform(index_N, policy.num_draws, seed=seed, epoch=1, purpose=purpose)
        kept = slice(-policy.num_alternating, None)
        shown_NK[:, kept] = (first_NK[:, kept] + (epoch - 1) / 2) % 1
    return shown_NK


def augment(x_BCHW: Tensor, policy: Policy, u_BK: Tensor) -> Tensor:
    """The batch as the policy shows it, in channels-last memory."""
    x_BCHW = policy.apply(x_BCHW, policy.draw(u_BK, x_BCHW.shape[-1]), warp)
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def should_prune(row: Row, prune_below: tuple[float, ...]) -> bool:
    """Whether the run's validation accuracy after this epoch is under the bar that was set before it began."""
    epoch, accuracy = row["epoch"], row["val_accuracy"]
    return isinstance(epoch, int) and epoch <= len(prune_below) and (accuracy or 0.0) < prune_below[epoch - 1]
