"""What a training run needs to know between two epochs: taken down in a checkpoint, and taken up again.

That is all of it: every draw is a function of (seed, epoch, image, purpose), dropout is seeded anew for each epoch, and
a run whose loss was not finite, or that was pruned, has ended.
"""

import math
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor

from experiments.networks.network import Network
from experiments.runs.averaging import Averages
from experiments.runs.checkpoints import Checkpoint
from experiments.runs.optimiser import Optimiser

MOMENTUM = "momentum."
"""Begins the names of momenta in a checkpoint."""

Row = dict[str, float | int | None]
"""One epoch of a run's history; lr is that of its last step."""


@dataclass
class TrainingState:
    """A network in training. rows: its history so far. num_done: optimiser steps so far."""

    network: Network
    optimiser: Optimiser
    averages: Averages | None = None
    rows: list[Row] = field(default_factory=list)
    num_done: int = 0

    def checkpoint(self) -> Checkpoint:
        """Refers to the tensors that go on changing: to be written before the next step."""
        momenta = {f"{MOMENTUM}{name}": value for name, value in self.optimiser.momenta(self.network).items()}
        return Checkpoint(self._kept() | momenta, {"rows": self.rows, "num_done": self.num_done})

    def take_up(self, checkpoint: Checkpoint) -> bool:
        """Go on from the checkpoint, if it is one of this network: all of it, or none."""
        values, tensors = checkpoint.values, checkpoint.tensors
        rows, num_done = values.get("rows"), values.get("num_done")
        if not (self._fits(tensors) and _is_history(rows) and isinstance(num_done, int)):
            return False
        self.rows, self.num_done = rows, num_done
        with torch.no_grad():
            for name, value in self._kept().items():
                value.copy_(tensors[name])  # in place, in the memory format that the network has
        momenta = {name.removeprefix(MOMENTUM): value for name, value in tensors.items() if name.startswith(MOMENTUM)}
        self.optimiser.take_momenta(self.network, momenta)
        return True

    def _kept(self) -> dict[str, Tensor]:
        """What is there from the first step on: weights and statistics, and their averages."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        averages = self.averages.of_network if self.averages else {}
        return tensors | {f"average.{name}": value for name, value in averages.items()}

    def _fits(self, tensors: dict[str, Tensor]) -> bool:
        """Whether these are tensors of such a network: a change of a model's code does not change the run's key."""
        kept, momenta = self._kept(), self.optimiser.known_momenta(self.network)
        known = kept | {f"{MOMENTUM}{name}": value for name, value in momenta.items()}
        return kept.keys() <= tensors.keys() <= known.keys() and all(
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
