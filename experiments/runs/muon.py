"""Muon: momentum for the filters of convolutions whose steps are made orthogonal.

Legend: O output channels, I numbers of one filter.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

NUM_ITERATIONS = 3
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, x^3 and x^5: they take singular values between about 0.1 and 1 to somewhere near 1 in a few iterations."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, whose sum is replaced by the orthogonal matrix nearest to it, with a row for each filter.

    So all directions of a layer's filters move alike, also those with a small gradient. Before each step a layer's
    filters are scaled to the norm of a matrix with rows of length 1, sqrt(O): normalisation behind a layer takes its
    scale out anyway, and this keeps a step's size relative to it. Weight decay would do nothing.
    `found_inf`, as of torch's fused optimisers: where it is not 0, steps do nothing.

    torch.optim.Muon takes matrices only.
    Source: Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks,
    https://kellerjordan.github.io/posts/muon.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Iterable[dict[str, Any]], *, momentum: float) -> None:
        super().__init__(params, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group["lr"], group["momentum"])

    def _move(self, weight: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        state = self.state[weight]
        buffer = state.setdefault("momentum_buffer", torch.zeros_like(weight))
        summed = gradient.add(buffer, alpha=momentum)
        ahead = gradient.add(summed, alpha=momentum)
        # Channels of an image first, whatever the memory format: the matrix is the same on all devices.
        direction = orthogonalised(ahead.flatten(1)).view_as(weight)
        scaled = weight * (len(weight) ** 0.5 / weight.norm().clamp_min(1e-12))
        for value, moved in ((buffer, summed), (weight, scaled - lr * direction)):
            value.copy_(moved if self.found_inf is None else torch.where(self.found_inf > 0, value, moved))


def orthogonalised(update_OI: Tensor, num_iterations: int = NUM_ITERATIONS) -> Tensor:
    """About the orthogonal matrix that is nearest to the update (its rows, or its columns where there are more rows).

    It has the update's singular vectors; singular values come out between about 0.7 and 1.2 after five iterations of
    Newton and Schulz, in float32; after three, those of small ones are still less.
    """
    a, b, c = COEFFICIENTS
    x = update_OI.float()
    x = x / (x.norm() + 1e-7)  # so that no singular value is above 1
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    for _ in range(num_iterations):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
