"""What a training run needs to know between two epochs: taken down in a checkpoint, and taken up again.

That is all of it: every draw is a function of (seed, epoch, image, purpose), dropout is seeded anew for each epoch, and
a run whose loss was not finite, or that was pruned, has ended.
"""

import math
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor

from experiments.ledger.checkpoints import Checkpoint
from experiments.network import Network

Row = dict[str, float | int | None]
"""One epoch of a run's history; lr is that of its last step."""


@dataclass
class TrainingState:
    """A network in training. rows: its history so far. num_done: optimiser steps so far."""

    network: Network
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rows: list[Row] = field(default_factory=list)
    num_done: int = 0

    def checkpoint(self) -> Checkpoint:
        """Refers to the tensors that go on changing: to be written before the next step."""
        values = {
            "rows": self.rows,
            "num_done": self.num_done,
            "lr": [group["lr"] for group in self.optimiser.param_groups],
        }
        return Checkpoint(self._tensors(), values)

    def take_up(self, checkpoint: Checkpoint) -> bool:
        """Go on from the checkpoint, if it is one of this network: all of it, or none."""
        values, tensors = checkpoint.values, checkpoint.tensors
        groups = self.optimiser.param_groups
        rows, num_done, rates = values.get("rows"), values.get("num_done"), values.get("lr")
        if not (self._fits(tensors) and _is_history(rows) and isinstance(num_done, int)):
            return False
        if not (isinstance(rates, list) and [type(rate) for rate in rates] == [float] * len(groups)):
            return False
        self.rows, self.num_done = rows, num_done
        ours = self.network.state_dict()
        with torch.no_grad():
            for name, value in ours.items():
                value.copy_(tensors[f"network.{name}"])  # in place, in the memory format that the network has
            for name, parameter in self.network.named_parameters():
                if (momentum := tensors.get(f"momentum.{name}")) is not None:
                    self.optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        self.schedule.last_epoch = num_done  # the schedule's word for steps; all that it remembers
        return True

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimiser.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        return tensors

    def _fits(self, tensors: dict[str, Tensor]) -> bool:
        """Whether these are tensors of such a network: whoever changes a model's code keeps the run's key."""
        network = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        momenta = {f"momentum.{name}": value for name, value in self.network.named_parameters()}
        known = network | momenta
        return network.keys() <= tensors.keys() <= known.keys() and all(
            (value.shape, value.dtype) == (known[name].shape, known[name].dtype) for name, value in tensors.items()
        )


def _is_history(rows: Any) -> TypeGuard[list[Row]]:
    """Whether these are rows of the epochs 1, 2, ..., of finite numbers or nothing."""
    return (
        isinstance(rows, list)
        and all(isinstance(row, dict) for row in rows)
        and [row.get("epoch") for row in rows] == list(range(1, len(rows) + 1))
        and all(
            value is None or (isinstance(value, int | float) and -math.inf < value < math.inf)
            for row in rows
            for value in row.values()
        )
    )
