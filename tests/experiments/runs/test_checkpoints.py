"""The files of checkpoints: what is whole and of this run is found, nothing else is, and no trouble ends a run."""

import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from experiments.runs import checkpoints as module
from experiments.runs.checkpoints import Checkpoint, Checkpoints
from ledger.files import write_atomically
from ledger.ledger import Ledger

CPU = torch.device("cpu")


def checkpoint(epoch: int) -> Checkpoint:
    rows = [{"epoch": number, "lr": 0.1 + 0.2, "val_loss": None} for number in range(1, epoch + 1)]
    return Checkpoint({"weight": torch.full((3, 2), float(epoch)), "count": torch.tensor(epoch)}, {"rows": rows})


def epochs_found(folder: Path, key: str = "abc", device: torch.device = CPU) -> list[int]:
    """Epochs of the checkpoints that a new process would find, the first choice first."""
    found = list(Checkpoints(folder, key, device).found())
    for one in found:
        epoch = len(one.values["rows"])
        assert one.values["rows"] == checkpoint(epoch).values["rows"]
        assert one.tensors.keys() == {"weight", "count"}
        assert all(torch.equal(value, checkpoint(epoch).tensors[name]) for name, value in one.tensors.items())
    return [len(one.values["rows"]) for one in found]


def kept(folder: Path, *epochs: int) -> list[Path]:
    """The files after these epochs were kept, the latest first."""
    writer = Checkpoints(folder, "abc", CPU)
    for epoch in epochs:
        writer.keep(checkpoint(epoch))
    return sorted(folder.iterdir(), reverse=True)


def test_the_last_two_generations_are_there(tmp_path):
    assert epochs_found(tmp_path / "none") == []
    assert len(kept(tmp_path / "one", 3)) == 1
    assert len(kept(tmp_path / "many", 1, 2, 9, 10, 100)) == 2
    assert epochs_found(tmp_path / "many") == [100, 10]


def test_a_file_is_safetensors_under_the_hash_of_its_content(tmp_path):
    (path,) = kept(tmp_path / "abc", 7)
    content = path.read_bytes()
    assert path.name == f"epoch-00007-{hashlib.sha256(content).hexdigest()}.safetensors"
    assert torch.equal(safetensors.torch.load(content)["weight"], torch.full((3, 2), 7.0))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "torn": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "a bit of the length": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "a bit of the metadata": lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    "a bit of a tensor": lambda content: content[:-3] + bytes([content[-3] ^ 128]) + content[-2:],
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_generation_is_passed_over(tmp_path, damage):
    newest, older = kept(tmp_path / "abc", 1, 2, 3)
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    assert epochs_found(tmp_path / "abc") == [2]
    older.write_bytes(DAMAGES[damage](older.read_bytes()))
    assert epochs_found(tmp_path / "abc") == []


def test_after_a_damaged_one_the_good_one_before_is_not_let_go(tmp_path):
    newest, good = kept(tmp_path / "abc", 1, 2, 3)
    newest.write_bytes(b"")
    again = Checkpoints(tmp_path / "abc", "abc", CPU)
    next(again.found())
    again.keep(checkpoint(3))
    assert epochs_found(tmp_path / "abc") == [3, 2]
    assert good.exists() and not newest.exists()


class Trap:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def forged(values: object, tensors: dict[str, torch.Tensor] | None = None) -> bytes:
    return safetensors.torch.save(tensors or {}, metadata={"checkpoint": json.dumps(values)})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        (2**40).to_bytes(8, "little") + b"{}",
        safetensors.torch.save({}),
        safetensors.torch.save({}, metadata={"checkpoint": "{"}),
        safetensors.torch.save({}, metadata={"checkpoint": "[" * 100_000}),
        forged(None),
        forged([1]),
        forged({}),
    ],
)
def test_foreign_content_under_its_right_hash_is_refused(tmp_path, content):
    kept(tmp_path / "abc", 1)
    (tmp_path / f"abc/epoch-00002-{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)
    assert epochs_found(tmp_path / "abc") == [1]


def test_a_pickle_is_never_loaded(tmp_path):
    folder = tmp_path / "abc"
    folder.mkdir()
    content = pickle.dumps(Trap(tmp_path / "sprung"))
    (folder / f"epoch-00002-{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)
    torch.save({"trap": Trap(tmp_path / "sprung")}, folder / "epoch-00003-0.safetensors")
    assert epochs_found(folder) == []
    assert not (tmp_path / "sprung").exists()
    pickle.loads(content)
    assert (tmp_path / "sprung").exists()  # it would have sprung


def test_one_of_another_run_or_another_arithmetic_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "abc"
    kept(folder, 1, 2)
    assert epochs_found(folder, key="abd") == []
    assert epochs_found(folder, device=torch.device("mps")) == []
    for owner, name, value in (
        (module, "CHECKPOINT_FORMAT", 2),
        (torch, "__version__", "2.0.0"),
        (module, "device_name", lambda device: "another"),
        (torch, "get_num_threads", lambda: 77),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            assert epochs_found(folder) == [], name
    assert epochs_found(folder) == [2, 1]


WRITES = [(os, "fsync", 2), (os, "open", 1), (Path, "replace", 1), (Path, "mkdir", 1), (Path, "unlink", 1)]


def break_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, problem: BaseException) -> None:
    """Make the call of that number, and all after it, end so. tests/faults/test_kill_at_write.py has the kills."""
    real, calls = getattr(owner, name), 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise problem
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize(("owner", "name", "number"), [*WRITES, (os, "fsync", 1)])
def test_a_full_disk_costs_the_checkpoint_only(tmp_path, monkeypatch, owner, name, number):
    folder = tmp_path / "abc"
    kept(folder, 1, 2)
    writer = Checkpoints(folder, "abc", CPU)
    next(writer.found())
    with monkeypatch.context() as patch:
        break_calls(patch, owner, name, number, OSError(28, "No space left on device"))
        writer.keep(checkpoint(3))
    assert epochs_found(folder) in ([2, 1], [3, 2, 1])
    if name != "unlink":
        assert not list(folder.glob(".*"))
    writer.keep(checkpoint(4))
    assert epochs_found(folder)[0] == 4
    assert len(list(folder.iterdir())) == 2


def test_the_old_ones_stay_until_the_new_one_was_read_back(tmp_path, monkeypatch):
    folder = tmp_path / "abc"
    kept(folder, 1, 2)
    writer = Checkpoints(folder, "abc", CPU)
    next(writer.found())

    def write_torn(path: Path, content: bytes) -> None:
        path.write_bytes(content[:-1])

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", write_torn)
        for epoch in (3, 4, 5):
            writer.keep(checkpoint(epoch))
    assert epochs_found(folder) == [2, 1]
    writer.keep(checkpoint(6))
    assert epochs_found(folder) == [6, 2]


def test_a_folder_that_cannot_be_is_no_reason_to_end(tmp_path):
    (tmp_path / "abc").write_bytes(b"a file")
    Checkpoints(tmp_path / "abc", "abc", CPU).keep(checkpoint(1))
    Checkpoints(tmp_path / "no/such/place", "abc", CPU).keep(checkpoint(1))
    assert epochs_found(tmp_path / "abc") == []


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def test_they_are_as_frequent_as_they_are_cheap(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    writer = Checkpoints(tmp_path / "abc", "abc", CPU)
    for cost_s, pause_s in ((0.001, 1.0), (0.6, 20.0), (0.03, 1.0)):

        def write_slowly(path: Path, content: bytes, cost_s: float = cost_s) -> None:
            clock.now += cost_s
            write_atomically(path, content)

        monkeypatch.setattr(module, "write_atomically", write_slowly)
        clock.now += 100
        assert writer.due()
        writer.keep(checkpoint(1))
        clock.now += pause_s - 0.01
        assert not writer.due()
        clock.now += 0.02
        assert writer.due()


def test_the_seconds_of_all_parts_are_known(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    for part, earlier_s in enumerate((0.0, 5.0, 10.0)):
        writer = Checkpoints(tmp_path / "abc", "abc", CPU)
        clock.now += 100  # loading is no training
        next(writer.found(), None)
        assert writer.earlier_s == pytest.approx(earlier_s)
        clock.now += 5
        writer.keep(checkpoint(part + 1))
        clock.now += 2  # lost
    assert Checkpoints(tmp_path / "abc", "abd", CPU).earlier_s == 0.0


def test_what_can_be_of_use_is_not_swept_up(tmp_path):
    ledger = Ledger(tmp_path / "runs")
    keys = ("trial", "final", "committed", "stranger", "1234567890123456", "running")
    for key in keys:
        Checkpoints(ledger.checkpoints(key), key, CPU).keep(checkpoint(1))
        assert len(list(Checkpoints(ledger.checkpoints(key), key, CPU).found())) == 1
    (ledger.root / "runs/committed").mkdir()  # the process was killed between the last two steps of a commit
    (ledger.root / "runs/committed/run.json").write_bytes(b"{}")
    ledger.write_study("one", {"arms": [{"trials": ["trial", "committed"], "finals": []}]})
    ledger.write_study("two", {"arms": [{"trials": [], "finals": ["final"]}]})
    ledger.mark_running("running", {})
    (ledger.root / "studies/two/study.json").write_text("{")
    ledger.sweep_up()
    assert {path.name for path in (ledger.root / "running").glob("*/")} == set(keys)  # who knows what that study wants
    ledger.write_study("two", {"arms": [{"trials": [], "finals": ["final"]}]})
    ledger.sweep_up()
    assert {path.name for path in (ledger.root / "running").glob("*/")} == {"trial", "final", "running"}
    ledger.commit("trial", {"run.json": b"{}"})
    assert not ledger.checkpoints("trial").exists()
