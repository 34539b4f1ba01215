"""A program that kills itself at each write; test_kill_at_write.py runs it once, as importing costs more than forking.

For each kind of file it writes something old, then in forked children something new, each child killed at another call
that writes; it looks at what is on disk then, cleans up as a later command does, and writes again. It prints JSON.
"""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.reports import write_files
from experiments.images.tasks import Images
from experiments.images.tasks import cache as cache_module
from experiments.images.tasks.cache import cached
from experiments.images.tasks.reading import Reading
from experiments.machine import device
from experiments.runs import checkpoints
from experiments.runs.checkpoints import Checkpoint, Checkpoints
from ledger.ledger import Ledger
from tests.faults.write_sites import Site, record, watched

RUN = {"run.json": b'{"format": 4}', "history.json": b"[]", "cost.json": b"{}", "weights.safetensors": bytes(9000)}
CPU = torch.device("cpu")
KEY = "0123456789abcdef"


@dataclass(frozen=True)
class Kind:
    """write: what is watched; the state that it leaves is new. before: what makes the old state.

    state: what is on disk, from None for nothing. clean: what a later command does first.
    """

    write: Callable[[Path], object]
    state: Callable[[Path], Any]
    before: Callable[[Path], object] = lambda folder: None
    clean: Callable[[Path], object] = lambda folder: None


def read_run(folder: Path) -> Any:
    run = Ledger(folder).folder(KEY)
    found = {path.name: path.read_bytes().hex() for path in run.glob("*")} if run.exists() else None
    if found:
        assert RUN.keys() <= found.keys() and all(found[name] == content.hex() for name, content in RUN.items())
    return sorted(found) if found else None


def sweep_up(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.sweep_up()
    assert not list(folder.rglob(".*")), list(folder.rglob(".*"))
    assert not ledger.running()


def commit(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.mark_running(KEY, {"epoch": 1})
    ledger.commit(KEY, RUN)


def keep(*epochs: int) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        writer = Checkpoints(folder / KEY, KEY, CPU)
        next(writer.found(), None)
        for epoch in epochs:
            writer.keep(
                Checkpoint({"weight": torch.full((50,), float(epoch))}, {"rows": [{"epoch": i} for i in range(epoch)]})
            )

    return work


def read_checkpoints(folder: Path) -> Any:
    found = list(Checkpoints(folder / KEY, KEY, CPU).found())
    epochs = [len(one.values["rows"]) for one in found]
    for epoch, one in zip(epochs, found, strict=True):
        assert torch.equal(one.tensors["weight"], torch.full((50,), float(epoch)))
    assert len(epochs) >= 2, epochs  # one more is kept than the last
    return epochs[0]


def keep_again(folder: Path) -> None:
    keep(3)(folder)
    assert len(list((folder / KEY).iterdir())) == 2


def read_study(folder: Path) -> Any:
    return Ledger(folder).read_study("study", whole=False)["number"]


def write_study(number: int) -> Callable[[Path], None]:
    return lambda folder: Ledger(folder).write_study("study", {"number": number, "long": "x" * 9000})


def images() -> Images:
    theta_N23 = np.tile(np.eye(2, 3, dtype=np.float32), (4, 1, 1))
    return Images(np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3), np.zeros(4, np.int64), theta_N23)


def fill_cache(folder: Path) -> None:
    cached("toy", 1, folder, lambda scratch: (("a", "b"), images(), images(), Reading()), lambda line: None)


def read_cache(folder: Path) -> Any:
    entries = list(folder.glob("toy-*"))
    if not entries:
        return None
    said: list[str] = []
    found = cached("toy", 1, folder, lambda scratch: sys.exit("built again"), said.append)
    assert not said and np.array_equal(found.train.pixels_NHWC, images().pixels_NHWC)
    return "whole"


def clean_cache(folder: Path) -> None:
    old_s = cache_module._STALE_S + 10
    for building in folder.glob(f"{cache_module._BUILDING}*"):
        os.utime(building, (building.stat().st_mtime - old_s,) * 2)
    cached("other", 2, folder, lambda scratch: (("a", "b"), images(), images(), Reading()), lambda line: None)
    assert not list(folder.glob(f"{cache_module._BUILDING}*"))


def write_table(number: int) -> Callable[[Path], object]:
    content = {name: f"{number} ".encode() * 5000 for name in ("ablation.md", "ablation.csv")}
    return lambda folder: write_files(folder, content, optional=["gone.csv"])


def read_table(folder: Path) -> Any:
    numbers = [set(path.read_text().split()) for path in sorted(folder.glob("[!.]*"))]
    assert all(len(each) == 1 for each in numbers), "a mixture within a file"
    return sorted(number for each in numbers for number in each)


def clean_tables(folder: Path) -> None:
    write_table(1)(folder)
    assert not list(folder.glob(".*"))


def write_precision(folder: Path) -> None:
    assert device.measured_precision(CPU, folder) == "bf16"


def read_precision(folder: Path) -> Any:
    path = folder / "precision.json"
    return sorted(json.loads(path.read_text()).values()) if path.exists() else None


KINDS = {
    "commit": Kind(commit, read_run, clean=sweep_up),
    "study.json": Kind(write_study(2), read_study, write_study(1), sweep_up),
    "checkpoint": Kind(keep(3), read_checkpoints, keep(1, 2), keep_again),
    "cache": Kind(fill_cache, read_cache, clean=clean_cache),
    "table": Kind(write_table(2), read_table, write_table(1), clean_tables),
    "precision": Kind(write_precision, read_precision),
}


def kill_at_each(kind: Kind, root: Path) -> dict[str, Any]:
    """Number of calls, and how often which state was found after a kill."""

    def fresh(name: str) -> Path:
        folder = root / name
        folder.mkdir(parents=True)
        kind.before(folder)
        return folder

    folder = fresh("undisturbed")
    old = kind.state(folder)
    sites = record(folder, lambda: kind.write(folder))
    new = kind.state(folder)
    assert old != new
    found: Counter[str] = Counter()
    for site in sites:
        folder = fresh(str(site.number))
        if not (child := os.fork()):
            with watched(folder, killing(site.number)):
                kind.write(folder)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, site
        state = kind.state(folder)
        mixture = sorted(set(old) | set(new)) if isinstance(old, list) else None
        assert state in (old, new) or (mixture and sorted(set(state)) == mixture), (site, state)
        found["old" if state == old else "new" if state == new else "some files old, some new"] += 1
        kind.clean(folder)
        kind.write(folder)
        assert kind.state(folder) == new, site
    return {"num_kills": len(sites), **found, "calls": Counter(site.call for site in sites)}


def killing(number: int) -> Callable[[Site], None]:
    """For `watched`: the end of this process at the call of that number."""

    def strike(site: Site) -> None:
        if site.number == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return strike


if __name__ == "__main__":
    torch.set_num_threads(1)
    checkpoints.EVERY_S = 0.0
    setattr(device, "train_rate", lambda kind, precision: {"fp32": 1.0, "bf16": 2.0}[precision])  # noqa: B010
    print(json.dumps({name: kill_at_each(kind, Path(sys.argv[1], name)) for name, kind in KINDS.items()}))
