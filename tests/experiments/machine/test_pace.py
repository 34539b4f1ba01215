"""Slow work takes a share of the time at most, however long it takes."""

import pytest

from experiments.machine import pace
from experiments.machine.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """Its last entry is what time it is."""
    now = [1000.0]
    monkeypatch.setattr(pace, "monotonic", lambda: now[-1])
    return now


def test_work_is_due_at_first_and_then_after_a_pause_in_proportion(clock):
    work = Pace(0.1)
    assert work.pause_s() == 0
    with work.at_work():
        clock.append(1002.0)
    assert work.pause_s() == pytest.approx(20)
    clock.append(1021.9)
    assert 0 < work.pause_s() < 0.11
    clock.append(1022.1)
    assert work.pause_s() == 0


@pytest.mark.parametrize("seconds", [0.001, 0.2, 5.0])
def test_it_takes_its_share_and_no_more(clock, seconds):
    work, spent_s = Pace(0.05), 0.0
    for _ in range(10_000):
        clock.append(clock[-1] + 0.05)
        if not work.pause_s():
            with work.at_work():
                clock.append(clock[-1] + seconds)
                spent_s += seconds
    assert spent_s <= 0.05 * (clock[-1] - clock[0]) + seconds
    assert spent_s > 0


def test_work_that_fails_was_work(clock):
    work = Pace(0.5)

    def fail() -> None:
        with work.at_work():
            clock.append(1004.0)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert work.pause_s() == pytest.approx(8)
