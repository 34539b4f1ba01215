"""A run that is killed goes on from its last checkpoint, and ends as if nothing had happened: the same bytes."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.images import draws
from experiments.runs import checkpoints as checkpoints_module
from experiments.runs import training, training_state
from experiments.runs.averaging import Averages
from experiments.runs.checkpoints import Checkpoint, Checkpoints
from experiments.runs.optimiser import Optimiser
from experiments.runs.run import make_run
from ledger.config import Optim, Protocol
from ledger.ledger import Ledger
from tests.support.project import ROOT
from tests.support.stopped_runs import CPU, EPOCHS, Stopped, as_in_a_worker, files_of, job_of, stop_in

RUNS: dict[str, dict[str, Any]] = {
    "dropout and augmentation": {"variant": "cnn@lenet+affine"},
    "coarse to fine": {"variant": "stn_affine:blur_px=2@lenet+flip_crop"},
    "draws": {"variant": "ti_cnn@lenet"},
    "poses drawn anew": {"variant": "oracle_unwarp@lenet", "pose": "TC:canvas_px=40:fresh=true"},
    "poses that a policy draws anew": {"variant": "cnn@lenet+posed"},
    "batch normalisation": {"variant": "cnn"},
    "averages and two optimisers": {"variant": "stn_affine@cnn4", "protocol": {"optimiser": "muon", "averaging": True}},
    "averages that are late": {"variant": "cnn@lenet", "protocol": {"averaging": True, "batch_size": 10}},
    "plain SGD": {"variant": "cnn@lenet+flip_crop", "protocol": {"optimiser": "sgd", "averaging": False}},
    "AdamW": {"variant": "stn_affine@lenet", "protocol": {"optimiser": "adamw", "schedule": "cosine"}},
    "parts of the recipe": {"variant": "cnn_recipe:muon=false:whitening=false"},
    "frozen parameters": {"variant": "stn_frozen@lenet"},
    "no momentum": {"variant": "cnn@lenet", "protocol": {"optimiser": "sgd", "momentum": 0.0, "schedule": "constant"}},
    "nothing held out": {"variant": "cnn@lenet", "protocol": {"val_images": 0}},
    "bars": {"variant": "cnn@lenet", "stage": "trial", "prune_below": (0.0, 0.0, 1.1)},
}
QUICK = ("averages and two optimisers", "poses drawn anew", "nothing held out", "bars")


@pytest.fixture(autouse=True)
def in_a_worker(monkeypatch):
    as_in_a_worker(monkeypatch)


@pytest.fixture
def make_job(cache):
    return partial(job_of, cache)


@pytest.fixture
def trained(monkeypatch):
    """The epochs that were trained, in order; cleared by whoever looks."""
    epochs: list[int] = []
    real = draws.permutation

    def permutation(*arguments: Any, epoch: int, **options: Any) -> torch.Tensor:
        epochs.append(epoch)
        return real(*arguments, epoch=epoch, **options)

    monkeypatch.setattr(training, "permutation", permutation)
    return epochs


def taken(epochs: list[int]) -> list[int]:
    seen = epochs.copy()
    epochs.clear()
    return seen


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in RUNS]
)
def test_a_run_that_is_stopped_in_each_epoch_ends_as_if_it_had_not_been(name, make_job, trained, tmp_path):
    """Stopped in epoch 2, 3 and 4, each time in another state of the process's random numbers."""
    undisturbed, job = make_job(tmp_path / "one", **RUNS[name]), make_job(tmp_path / "two", **RUNS[name])
    make_run(undisturbed, CPU)
    last = len(taken(trained))
    assert last == (3 if name == "bars" else EPOCHS)
    ledger = Ledger(job.ledger)
    for epoch in range(2, last + 1):
        torch.manual_seed(epoch)
        with pytest.raises(Stopped):
            make_run(job, CPU, stop_in(epoch))
        assert taken(trained) == ([1, 2] if epoch == 2 else [epoch - 1, epoch])[-2:]
        assert job.key not in ledger and ledger.checkpoints(job.key).exists()
    torch.manual_seed(99)
    told: list[training.Row] = []
    make_run(job, CPU, told.append)
    assert taken(trained) == [last]
    assert files_of(job) == files_of(undisturbed)
    assert told == ledger.read(job.key, "history.json")
    assert not list((ledger.root / "running").iterdir())


@pytest.mark.long
def test_a_resumed_run_is_stopped_once_from_each_epoch(make_job, trained, tmp_path):
    undisturbed = make_job(tmp_path / "whole", **RUNS["batch normalisation"])
    make_run(undisturbed, CPU)
    for epoch in range(1, EPOCHS + 1):
        job = make_job(tmp_path / str(epoch), **RUNS["batch normalisation"])
        with pytest.raises(Stopped):
            make_run(job, CPU, stop_in(epoch))
        trained.clear()
        make_run(job, CPU)
        assert taken(trained) == list(range(epoch, EPOCHS + 1))
        assert files_of(job) == files_of(undisturbed)


KILLED = """
import os, pickle, signal, sys
import torch
from experiments.runs import checkpoints
from experiments.machine.device import prepare_device
from experiments.runs.run import make_run
checkpoints.EVERY_S, checkpoints.COST_SHARE = 0.0, 1e9
job = pickle.load(sys.stdin.buffer)
prepare_device(torch.device("cpu"))
make_run(job, torch.device("cpu"), lambda row: row["epoch"] == 3 and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.long
def test_another_process_takes_up_what_a_killed_one_left(make_job, trained, tmp_path):
    undisturbed, job = (make_job(tmp_path / name, **RUNS["coarse to fine"]) for name in ("one", "two"))
    make_run(undisturbed, CPU)
    trained.clear()
    process = subprocess.run(
        [sys.executable, "-c", KILLED], input=pickle.dumps(job), env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=90
    )
    assert process.returncode == -signal.SIGKILL
    ledger = Ledger(job.ledger)
    # A sweep that starts now lists the run, and leaves its checkpoints when it sweeps up.
    ledger.write_study("study", {"arms": [{"trials": [], "finals": [job.key]}]})
    ledger.sweep_up()
    make_run(job, CPU)
    assert taken(trained) == [3, 4]
    assert files_of(job) == files_of(undisturbed)


def test_a_damaged_checkpoint_costs_an_epoch_and_two_cost_the_run_so_far(make_job, trained, tmp_path):
    undisturbed = make_job(tmp_path / "one", **RUNS["batch normalisation"])
    make_run(undisturbed, CPU)
    for number, first in ((1, 3), (2, 1)):
        job = make_job(tmp_path / f"damaged {number}", **RUNS["batch normalisation"])
        with pytest.raises(Stopped):
            make_run(job, CPU, stop_in(4))
        for path in sorted(Ledger(job.ledger).checkpoints(job.key).iterdir(), reverse=True)[:number]:
            path.write_bytes(path.read_bytes()[:-1])
        trained.clear()
        make_run(job, CPU)
        assert taken(trained) == list(range(first, EPOCHS + 1))
        assert files_of(job) == files_of(undisturbed)


def test_the_checkpoints_of_another_run_are_refused(make_job, trained, tmp_path):
    """Even where they would fit: it differs in its seed alone."""
    other, job = (make_job(tmp_path / "one", variant="cnn@lenet", seed=seed) for seed in (1, 2))
    with pytest.raises(Stopped):
        make_run(other, CPU, stop_in(4))
    ledger = Ledger(job.ledger)
    ledger.checkpoints(other.key).rename(ledger.checkpoints(job.key))
    trained.clear()
    make_run(job, CPU)
    assert taken(trained) == [1, 2, 3, 4]


FORGERIES: dict[str, Callable[[Checkpoint], object]] = {
    "another network": lambda one: one.tensors.pop(next(iter(one.tensors))),
    "more tensors": lambda one: one.tensors.update({"network.more": torch.zeros(1)}),
    "another shape": lambda one: one.tensors.update({"network.gain_1C11": torch.zeros(1)}),
    "another type": lambda one: one.tensors.update({"network.gain_1C11": torch.zeros(1, 3, 1, 1).half()}),
    "no rows": lambda one: one.values.pop("rows"),
    "rows missing": lambda one: one.values["rows"].pop(0),
    "a row that is none": lambda one: one.values["rows"].__setitem__(0, 1),
    "a loss that is no number": lambda one: one.values["rows"][0].update(train_loss=float("nan")),
    "a loss that is text": lambda one: one.values["rows"][0].update(train_loss="<b>"),
    "a momentum of what is frozen": lambda one: one.tensors.update({"momentum.0.frozen": torch.zeros(2, 2)}),
    "an average missing": lambda one: one.tensors.pop("average.0.weight"),
    "no averages": lambda one: [one.tensors.pop(name) for name in list(one.tensors) if name.startswith("average.")],
    "an average of another shape": lambda one: one.tensors.update({"average.0.weight": torch.zeros(3, 3)}),
    "no steps": lambda one: one.values.update(num_done=None),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_one_that_does_not_fit_is_not_taken_up_in_part(name):
    def state() -> training_state.TrainingState:
        network = torch.nn.Sequential(torch.nn.Linear(2, 3))
        network.register_buffer("gain_1C11", torch.ones(1, 3, 1, 1))
        network[0].register_parameter("frozen", torch.nn.Parameter(torch.ones(2, 2), requires_grad=False))
        optimiser, averages = Optimiser(network, Protocol(), Optim(), {}), Averages(network)
        network(torch.ones(1, 2)).sum().backward()
        optimiser.step()
        averages.pull(0.5)
        return training_state.TrainingState(network, optimiser, averages, [{"epoch": 1}, {"epoch": 2}], 2)  # type: ignore[arg-type]

    one, other = state().checkpoint(), state()
    one = Checkpoint({name: value.clone() for name, value in one.tensors.items()}, one.values)
    before = {name: value.clone() for name, value in other.checkpoint().tensors.items()}
    assert one.tensors.keys() == before.keys() and len(before) == 4 + 4 + 2
    FORGERIES[name](one)
    other.rows, other.num_done = [], 0
    assert not other.take_up(one)
    assert (other.rows, other.num_done) == ([], 0)
    assert all(torch.equal(value, before[name]) for name, value in other.checkpoint().tensors.items())


def test_a_disk_that_takes_no_checkpoint_does_not_end_the_run(make_job, trained, monkeypatch, tmp_path):
    undisturbed, job = (make_job(tmp_path / name, **RUNS["draws"]) for name in ("one", "two"))
    make_run(undisturbed, CPU)
    trained.clear()
    tried: list[str] = []

    def full(path: Path, content: bytes) -> None:
        tried.append(path.name[:11])
        path.with_name(f".{path.name}.1").write_bytes(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints_module, "write_atomically", full)
    make_run(job, CPU)
    assert tried == ["epoch-00001", "epoch-00002", "epoch-00003"]  # of the last epoch none is made
    assert taken(trained) == [1, 2, 3, 4]
    assert files_of(job) == files_of(undisturbed)
    assert not list((job.ledger / "running").iterdir())


def test_epochs_of_less_than_a_second_are_not_kept_each(make_job, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints_module, "EVERY_S", 1000.0)
    monkeypatch.setattr(Checkpoints, "keep", lambda self, checkpoint: pytest.fail("kept"))
    job = make_job(tmp_path / "one", variant="cnn@lenet")
    make_run(job, CPU)
    assert job.key in Ledger(job.ledger)


def test_the_seconds_of_training_are_those_of_all_parts(make_job, tmp_path):
    job = make_job(tmp_path / "one", variant="cnn@lenet")
    with pytest.raises(Stopped):
        make_run(job, CPU, stop_in(4))
    ledger = Ledger(job.ledger)
    writer = Checkpoints(ledger.checkpoints(job.key), job.key, CPU)
    found = next(writer.found())
    writer._start_s -= 1000  # as if the first part had taken so long
    for path in writer.folder.iterdir():  # of two of one epoch, either would do
        path.unlink()
    writer.keep(found)
    make_run(job, CPU)
    cost = json.loads((ledger.folder(job.key) / "cost.json").read_text())
    assert 1000 < cost["train_seconds"] < cost["seconds"] < 1090
    assert cost["images_per_s"] == pytest.approx(48 * EPOCHS / cost["train_seconds"], abs=0.05)
