"""The learning rate over a run, against torch's one cycle and the formula of the triangle."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.runs.schedule import lr_share
from ledger.config import Schedule


def rates(schedule: Schedule, num_steps: int) -> list[float]:
    return [lr_share(schedule, step, num_steps) for step in range(num_steps)]


def torch_rates(num_steps: int) -> list[float]:
    """Of torch's one cycle with its defaults, as shares of the peak."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, total_steps=num_steps, cycle_momentum=False)
    found = []
    for _ in range(num_steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cycle.step()
    return found


@pytest.mark.parametrize("num_steps", [4, 5, 7, 10, 13, 100, 333])
def test_one_cycle_is_that_of_torch(num_steps):
    assert rates("one_cycle", num_steps) == pytest.approx(torch_rates(num_steps), rel=1e-9, abs=1e-12)


def test_one_cycle_goes_up_for_30_percent_and_down_to_nothing():
    shares = rates("one_cycle", 100)
    assert max(shares) == shares[29] == 1.0
    assert shares[:30] == sorted(shares[:30])
    assert shares[29:] == sorted(shares[29:], reverse=True)
    assert shares[0] == pytest.approx(1 / 25)
    assert shares[-1] < 1e-5


@given(st.integers(6, 5000))
def test_triangle_is_two_straight_lines(num_steps):
    """From 0.2 at step 0 up to 1 at a fifth of the steps, and to 0 where the run is over."""
    lines = np.interp(np.arange(num_steps), [0, 0.2 * num_steps, num_steps], [0.2, 1, 0])
    assert rates("triangle", num_steps) == pytest.approx(lines.tolist(), abs=1e-12)


def test_ten_steps_are_these():
    assert rates("triangle", 10) == pytest.approx([0.2, 0.6, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


@pytest.mark.parametrize("num_steps", [20, 21, 40, 100, 333])
def test_cosine_is_a_line_up_and_then_torch_s_cosine_down(num_steps):
    """From a hundredth up to the peak at a twentieth of the steps, and torch's annealing from there."""
    shares, top = rates("cosine", num_steps), num_steps / 20
    if num_steps % 20 == 0 and top > 1:
        peak = int(top)
        assert shares[:peak] == pytest.approx(np.linspace(0.01, 1, peak, endpoint=False).tolist())
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        down = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps - peak)
        for share in shares[peak:]:
            assert share == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
            optimiser.step()
            down.step()
    falling = shares[math.ceil(top) if top > 1 else 0 :]
    assert falling == sorted(falling, reverse=True) and falling[-1] < 0.01


@pytest.mark.parametrize("num_steps", [1, 2, 7, 20])
def test_cosine_of_few_steps_goes_down_from_its_peak(num_steps):
    shares = rates("cosine", num_steps)
    assert shares == pytest.approx([(1 + math.cos(math.pi * step / num_steps)) / 2 for step in range(num_steps)])


@pytest.mark.parametrize(("schedule", "most"), [("triangle", 5), ("one_cycle", 3), ("constant", 20)])
def test_a_run_of_too_few_steps_to_go_up_stays_at_its_peak(schedule, most):
    for num_steps in range(1, most + 1):
        assert rates(schedule, num_steps) == [1.0] * num_steps
    if schedule != "constant":
        assert rates(schedule, most + 1)[0] < 1


@pytest.mark.parametrize("schedule", ["triangle", "one_cycle", "cosine", "constant"])
@given(num_steps=st.integers(1, 3000))
def test_no_rate_is_negative_or_above_the_peak(schedule, num_steps):
    assert all(0 < share <= 1 for share in rates(schedule, num_steps))
