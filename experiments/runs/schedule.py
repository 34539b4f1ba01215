"""How the learning rate goes over a run."""

import math

from ledger.config import Schedule

WARM_UP_SHARE = {"triangle": 0.2, "one_cycle": 0.3, "cosine": 0.05}
"""Of a run's steps: those on which the learning rate rises."""
START_SHARE = {"triangle": 0.2, "one_cycle": 1 / 25, "cosine": 0.01}
"""Of the peak: the rate of the first step."""
CYCLE_END = 1e-4
"""Of the first step's rate: that of a one-cycle's last."""


def lr_share(schedule: Schedule, step: int, num_steps: int) -> float:
    """The learning rate of a step (0, 1, ...) as a share of the peak.

    triangle: straight up, then straight down, to zero one step after the last.
    one_cycle: up, then down to nothing, along cosines, as torch.optim.lr_scheduler.OneCycleLR.
    cosine: straight up, then along half a cosine, to zero one step after the last. Where the way up is not even a step
    long there is none.
    Where that of the others is not even two steps long there is none, and the rate stays at its peak.
    Sources: Smith and Topin 2017, Super-Convergence, arXiv:1708.07120; Loshchilov and Hutter 2017, SGDR,
    arXiv:1608.03983.
    """
    if schedule == "constant":
        return 1.0
    start, top = START_SHARE[schedule], WARM_UP_SHARE[schedule] * num_steps
    if schedule == "cosine":
        if step < top and top > 1:
            return start + (1 - start) * step / top
        top = top if top > 1 else 0
        return _along_cosine(1.0, 0.0, (step - top) / (num_steps - top))
    if top <= 1:
        return 1.0
    if schedule == "triangle":
        return start + (1 - start) * step / top if step < top else (num_steps - step) / (num_steps - top)
    top -= 1
    if step <= top:
        return _along_cosine(start, 1.0, step / top)
    return _along_cosine(1.0, start * CYCLE_END, (step - top) / (num_steps - 1 - top))


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
