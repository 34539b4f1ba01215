"""Averaging of weights: what a network is drawn to as its training ends."""

import torch
from torch import Tensor, nn

AVERAGE_EVERY = 5
"""Steps between two averages."""
DECAY = 0.95**AVERAGE_EVERY


class Averages:
    """A running average of a network's weights and statistics, in place of which the network goes on training.

    The average has the more weight the further training has come, by the third power of its progress: at the start
    the network is hardly held back, at the end it is all but the average.
    Source: Jordan 2024, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv:2404.00498, section 3, a variant of
    Zhang et al. 2019, Lookahead Optimizer, arXiv:1907.08610.
    """

    def __init__(self, network: nn.Module) -> None:
        state = network.state_dict()
        self._network = {name: value for name, value in state.items() if value.is_floating_point()}
        self.of_network: dict[str, Tensor] = {name: value.clone() for name, value in self._network.items()}

    @torch.no_grad()
    def pull(self, progress: float) -> None:
        """Take the network into the average, and go on from there. progress: share of training that is done."""
        values, averages = list(self._network.values()), list(self.of_network.values())
        torch._foreach_lerp_(averages, values, 1 - DECAY * progress**3)
        torch._foreach_copy_(values, averages)
