"""How many workers there is memory for, and that fewer than asked for are said."""

from pathlib import Path

import pytest
from jsonargparse import Namespace

from experiments.study import memory_space
from experiments.study.memory_space import PROCESS, fit_to_memory, kept_bytes, worker_bytes
from experiments.sweep.executors.local import ThisMachine
from experiments.terminal.cli import main
from experiments.terminal.commands.options import count_workers
from ledger.config import Protocol
from tests.support.tiny_study import TINY, plan_of, write_sweep


def test_what_a_forward_pass_keeps() -> None:
    """Of `cnn4` the inputs of convolutions, norms and ReLUs; of a larger image as much more as it is larger."""
    small = kept_bytes("cnn@cnn4", Protocol(), 32, 10)
    assert 300 * 32**2 < small < 400 * 32**2
    assert kept_bytes("cnn@cnn4", Protocol(), 64, 10) == pytest.approx(4 * small)
    assert kept_bytes("cnn@resnet18", Protocol(), 32, 10) > 10 * small


def test_what_a_forward_pass_of_the_default_backbone_keeps() -> None:
    """The image; inputs of activations, convolutions, pooling and norms, and where each pooled number was found."""
    number, place = 4, 8
    whitened = 2 * 24 * 31**2 * number
    stages = 0
    for channels, before_px, after_px in ((16, 31, 15), (64, 15, 7), (64, 7, 3)):
        pooled = channels * after_px**2
        stages += channels * before_px**2 * number + pooled * place + 5 * pooled * number
    between = sum(channels * px**2 * number for channels, px in ((16, 15), (64, 7), (64, 3)))
    head = 64 * (place + number)
    expected = 3 * 32**2 * number + whitened + stages + between + head
    assert kept_bytes("cnn", Protocol(), 32, 10) == pytest.approx(expected, rel=0.01)
    wide = kept_bytes("cnn", Protocol(width=4), 32, 10)
    assert wide == pytest.approx(4 * (expected - whitened) + whitened, rel=0.05)
    narrow, twice = (kept_bytes("cnn@cnn4", Protocol(width=width), 32, 10) for width in (1, 2))
    assert twice == pytest.approx(2 * narrow, rel=0.05)


def test_a_worker_takes_what_its_process_images_and_steps_take(here: Path) -> None:
    plan, moved = plan_of(here), plan_of(here, poses=["upright", "TC:canvas_px=64"])
    largest = max(kept_bytes(arm.variant, plan.protocol, 32, 10) for arm in plan.arms)
    steps = 1.75 * plan.protocol.batch_size * largest
    assert worker_bytes(plan) == PROCESS + 2 * plan.task.num_bytes + steps
    huge = plan_of(here, protocol=TINY["protocol"] | {"batch_size": 65_536})
    assert worker_bytes(huge) == PROCESS + 2 * plan.task.num_bytes + 1.75 * plan.protocol.train_images * largest
    assert worker_bytes(moved) == PROCESS + 3 * 4 * plan.task.num_bytes + 4 * steps
    anew = plan_of(here, poses=["R:fresh=true"])
    assert worker_bytes(anew) == PROCESS + 3 * anew.task.num_bytes + steps


@pytest.mark.parametrize(("room", "number"), [(8.1, 8), (7.9, 7), (1.0, 1), (0.2, 1), (-3.0, 1)])
def test_as_many_workers_as_there_is_memory_for(
    room: float, number: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, said = plan_of(here), list[str]()
    monkeypatch.setattr(memory_space, "free_memory", lambda: PROCESS + room * worker_bytes(plan))
    assert fit_to_memory(plan, 8, 1, said.append) == number
    assert bool(said) == (number < 8)


def test_a_worker_that_is_two_processes_takes_more(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, said = plan_of(here), list[str]()
    monkeypatch.setattr(memory_space, "free_memory", lambda: PROCESS + 4.1 * worker_bytes(plan))
    assert fit_to_memory(plan, 4, 1, said.append) == 4 and not said
    assert fit_to_memory(plan, 4, 2, said.append) < 4 and said


@pytest.mark.long
def test_a_plan_says_why_workers_are_few(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep(here)
    monkeypatch.setattr(memory_space, "free_memory", lambda: 600_000_000)
    monkeypatch.setattr(memory_space, "worker_bytes", lambda plan: 1_500_000_000)
    monkeypatch.setattr(ThisMachine, "num_workers", lambda self, device, asked, per_gpu: asked or 4)
    assert main(["plan", "--budget=smoke"]) == 0
    assert (
        "A worker takes about 1.5 GB of memory, and 600.0 MB are free: 1 worker, where there are cores for 4; "
        "JOBS=4 starts all of them.\n"
    ) in capsys.readouterr().out
    assert main(["plan", "--budget=smoke", "--jobs=2"]) == 0
    printed = capsys.readouterr().out
    assert "2 workers" in printed and "memory" not in printed
    assert main(["plan", "--budget=smoke", "--jobs=99"]) == 0
    printed = capsys.readouterr().out
    assert "JOBS=99: there are 8 runs, so it is 8 workers.\n" in printed


def test_a_cluster_without_room_for_all_that_are_asked_for_says_so(here: Path) -> None:
    class Small(ThisMachine):
        processes_here = 0

        def num_workers(self, device: str, asked: int, per_gpu: int) -> int:
            return min(asked or 3, 3)

    said: list[str] = []
    plan = plan_of(here)
    asked = Namespace(jobs=5, workers_per_gpu=1)
    assert count_workers(asked, plan, Small(), said.append) == 3
    assert said == ["JOBS=5: there is room for 3 now, so it is 3 workers."]
