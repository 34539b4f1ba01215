"""What reads files that anybody may have written, each with a file to mutate: the targets of the fuzz."""

import hashlib
import io
import json
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from jsonargparse import Namespace

from analysis.answer import answer, headline
from analysis.findings import find
from analysis.formats import DOCUMENTS
from analysis.report import report_html
from analysis.tables import Builder, builders
from experiments.images.tasks import Images
from experiments.images.tasks.cache import Parts, cached
from experiments.images.tasks.reading import Reading
from experiments.networks.network import Network
from experiments.runs.checkpoints import Checkpoint, Checkpoints
from experiments.runs.optimiser import Optimiser
from experiments.runs.training_state import TrainingState
from experiments.study.study import BUDGETS, load_study
from experiments.study.sweep_file import read_mapping
from experiments.terminal.commands import status
from ledger.audit import audit
from ledger.checksums import SUMS, write_sums
from ledger.config import Optim, Protocol
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.markers import not_uploaded
from tests.attacks.mutation import as_json, mutated_bytes, mutated_value
from tests.support.synthetic_ledger import (
    STUDY,
    transformer_record,
    write_arm,
    write_evaluation,
    write_maps,
    write_study,
)

SWEEP = """\
name: fuzz
task: sprites
poses: [upright, R]
variants:
- &cnn {variant: cnn, baseline: cnn}
- {variant: stn_affine@lenet+affine, baseline: cnn+affine}
- {variant: cnn+affine, baseline: cnn}
- {variant: stn_affine@lenet, baseline: cnn}
claims:
  alpha: 0.05
  family: [{variant: stn_affine@lenet+affine, over: cnn+affine, interaction: true}, {variant: cnn+affine, over: cnn, pose: R}]
protocol: {image_px: 32, epochs: 2, momentum: 0.9, nesterov: true, precision: fp32}
search:
  sampler: tpe
  trials: 3
  space:
    optim.lr: {distribution: log_uniform_values, min: 1e-3, max: 1.0}
    optim.weight_decay: {values: [0, 0.0005]}
  extras:
    stn_affine: {model.loc_lr_factor: {distribution: q_uniform, min: 0.5, max: 1, q: 0.5}}
    affine: {policy.max_deg: {min: 5, max: 45}}
final_seeds: 2
wandb: {project: p, mode: offline}
budgets: {smoke: {trials: 2, protocol: {epochs: 1}}, cpu: {variants: [*cnn, {variant: cnn+affine, baseline: cnn}], claims: {alpha: 0.1, family: [{variant: cnn+affine, over: cnn}]}}}
"""  # noqa: E501


@dataclass
class Found:
    """What so many mutations led to. errors: by type, the accepted ones as `none`; failures: in words, to repeat them.

    slowest_s: seconds of CPU of the slowest.
    """

    errors: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def add(self, other: "Found") -> None:
        self.errors += other.errors
        self.failures += other.failures
        self.slowest_s = max(self.slowest_s, other.slowest_s)


Target = Callable[[Random], tuple[bytes, Callable[[], object]]]
"""Draws a mutation, puts it where it is read, and returns it with what reads it."""


def fuzz(target: Target, seeds: Iterable[str]) -> Found:
    """One mutation for each seed: every error must be typed and one line, and come within a second."""
    found = Found()
    with suppress(Exception):
        target(Random(""))[1]()  # the first one may import what takes longer
    for seed in seeds:
        mutated, read = target(Random(seed))
        start, kind, problem = time.process_time(), "none", ""
        try:
            read()
        except UserError as error:
            kind = type(error).__name__
            if len(str(error)) > 2000 or not str(error).replace("\ufffd", "").isprintable():
                problem = f"the message is not one short line: {error!s:.300}"
        except Exception as error:
            kind = problem = type(error).__name__
            problem += "".join(traceback.format_exception(error)[-4:])
        seconds = time.process_time() - start
        found.slowest_s = max(found.slowest_s, seconds)
        found.errors[kind] += 1
        if seconds > 1:
            problem += f" took {seconds:.1f} s"
        if problem:
            found.failures.append(f"seed {seed!r}: {mutated[:4000]!r}\n{problem}")
    return found


def sweep_files(folder: Path) -> Target:
    """Mutated sweep files, read at every budget."""
    path, text = folder / "sweep.yaml", SWEEP.encode()
    path.write_bytes(text)
    value = read_mapping(path).values

    def target(draw: Random) -> tuple[bytes, Callable[[], object]]:
        mutated = mutated_bytes(text, draw) if draw.random() < 0.5 else as_json(mutated_value(value, draw))
        path.write_bytes(mutated)
        return mutated, lambda: [load_study(path, budget) for budget in BUDGETS]

    return target


def write_ledger(root: Path) -> None:
    """Two arms with everything that a run can have."""
    arms = []
    for variant, record in (("cnn", None), ("stn_affine", transformer_record())):
        arm = write_arm(root, variant, "cnn", [0.5, 0.55], trial_statuses=("completed",), transformers=[record] * 2)
        arm |= {"winner": arm["trials"][0], "space": {"optim.lr": {"min": 0.01, "max": 1.0}}}
        arms.append(arm)
        for seed, key in enumerate(arm["finals"]):
            write_evaluation(root, key, accuracy=0.5, seed=seed, num_images=20)
            if record:
                write_maps(root, key, seed=seed, num_images=4)
        trial = root / "runs" / arm["trials"][0]
        (trial / SUMS).write_bytes(write_sums({path.name: path.read_bytes() for path in trial.iterdir()}))
    claims = {"alpha": 0.05, "margin": 0.01, "declared": True}
    family = [{"pose": "upright", "variant": "stn_affine", "baseline": "cnn", "interaction": False}]
    plan = {"num_finals": 2, "claims": claims | {"family": family}}
    source = {"file": "sweep.yaml", "data": True, "minutes": None}
    about: dict[str, Any] = {"num_trials": 1, "sampler": "tpe", "source": source, "first": plan, **plan}
    write_study(root, arms, **about)
    marker = {"project": "p", "group": "g", "tags": [], "folder": "offline-run-x", "uploaded": False}
    for arm in arms:
        file = root / "wandb" / "logged" / arm["finals"][0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(marker))
    (root / "running").mkdir()
    progress = {"variant": "cnn", "pose": "upright", "seed": 1, "stage": "final", "epochs": 2, "epoch": 1}
    (root / "running" / f"{'ab' * 8}.json").write_text(json.dumps(progress | {"pid": os.getpid()}))


def _mutated_file(root: Path, draw: Random, pattern: str) -> tuple[Path, bytes, bytes]:
    """One of the files, what it held, and what it holds now."""
    file = draw.choice(sorted(path for path in root.glob(pattern) if path.is_file()))
    before = file.read_bytes()
    if file.suffix in (".safetensors", ".npy") or file.name == SUMS or draw.random() < 0.3:
        after = mutated_bytes(before, draw)
    else:
        after = as_json(mutated_value(json.loads(before), draw))
    file.write_bytes(after)
    return file, before, after


def study_files(folder: Path) -> Target:
    """Mutated files of a study, read up to the tables in every format, the answer and the report's page."""
    write_ledger(folder)
    read_whole(folder, list(builders().values()), with_report=True)  # the first time, much is imported and compiled

    def target(draw: Random) -> tuple[bytes, Callable[[], object]]:
        pattern = draw.choice(("studies/*/study.json", "runs/*/run.json", "runs/*/*"))
        file, before, after = _mutated_file(folder, draw, pattern)
        chosen, with_report = draw.sample(list(builders().values()), 4), draw.random() < 0.2  # all take too long

        def read() -> None:
            try:
                read_whole(folder, chosen, with_report=with_report)
            finally:
                file.write_bytes(before)

        return f"{file.relative_to(folder)}: ".encode() + after, read

    return target


def read_whole(ledger: Path, tables: Iterable[Builder], *, with_report: bool) -> None:
    """The study, these tables of it in every format, the answer, the report's page."""
    findings = find(ledger, STUDY)
    for build in tables:
        if table := build(findings):
            for document in DOCUMENTS.values():
                document(table).encode()
    "".join([headline(findings), *answer(findings)]).encode()
    if with_report:
        report_html(findings, ()).encode()


def shown(ledger: Ledger) -> str:
    """What `status` prints."""
    with redirect_stdout(io.StringIO()) as text, redirect_stderr(io.StringIO()):
        status.main(Namespace(runs=ledger.root, json=False))
    return text.getvalue()


def ledger_files(folder: Path) -> Target:
    """Mutated files of a ledger, read by what sweeps, shows, tidies and uploads it."""
    write_ledger(folder)

    def target(draw: Random) -> tuple[bytes, Callable[[], object]]:
        pattern = draw.choice(("studies/*/study.json", "runs/*/*", "running/*.json", "wandb/logged/*"))
        file, before, after = _mutated_file(folder, draw, pattern)

        def read() -> None:
            ledger = Ledger(folder)
            readers: list[Callable[[], object]] = [
                lambda: shown(ledger), lambda: not_uploaded(folder), ledger.running, lambda: audit(folder),
                ledger.sweep_up,
            ]  # fmt: skip
            readers += [
                lambda run=run, name=name: ledger.read(run.name, name)  # type: ignore[misc]
                for run in sorted(folder.glob("runs/*"))
                for name in ("run.json", "history.json", "cost.json")
            ]
            problem = None
            try:
                for reader in readers:
                    try:
                        reader()
                    except UserError as error:
                        problem = error
            finally:
                file.write_bytes(before)
            if problem:
                raise problem

        return f"{file.relative_to(folder)}: ".encode() + after, read

    return target


def checkpoint_files(folder: Path) -> Target:
    """Mutated checkpoints, under the old name or under the one that their bytes ask for: found, or as good as none."""
    network = torch.nn.Linear(3, 2)
    optimiser = Optimiser(torch.nn.Sequential(network), Protocol(), Optim(), {})
    state, device = TrainingState(cast(Network, network), optimiser), torch.device("cpu")
    row = {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": None, "val_accuracy": None}
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    values = {"rows": [row], "num_done": 3}
    keeper = Checkpoints(folder / "once", "key", device)
    keeper.keep(Checkpoint(tensors, values))
    (kept,) = (folder / "once").iterdir()
    whole = kept.read_bytes()
    with safetensors.safe_open(kept, framework="pt") as file:
        about = json.loads(file.metadata()["checkpoint"])
    place = folder / "running"
    place.mkdir()

    def target(draw: Random) -> tuple[bytes, Callable[[], object]]:
        for old in place.iterdir():
            old.unlink()
        if draw.random() < 0.5:
            mutated = mutated_bytes(whole, draw)
        else:
            text = as_json(mutated_value(about, draw)).decode(errors="replace")
            mutated = safetensors.torch.save(tensors, metadata={"checkpoint": text})
        name = kept.name if draw.random() < 0.2 else f"epoch-00001-{hashlib.sha256(mutated).hexdigest()}.safetensors"
        (place / name).write_bytes(mutated)

        def read() -> None:
            for checkpoint in Checkpoints(place, "key", device).found():
                if state.take_up(checkpoint):
                    assert [row["epoch"] for row in state.rows] == list(range(1, len(state.rows) + 1))

        return mutated, read

    return target


def cache_entries(folder: Path) -> Target:
    """Mutated cache entries: read, or built again, and never another error."""

    def build(scratch: Path) -> Parts:
        part = Images(np.zeros((2, 4, 4, 3), np.uint8), np.arange(2), np.zeros((2, 2, 3), np.float32))
        return ("a", "b"), part, part, Reading()

    def load() -> object:
        return cached("fuzz", 1, folder, build, lambda line: None)

    load()
    (entry,) = folder.glob("fuzz-*")
    whole = {path: path.read_bytes() for path in entry.iterdir()}

    def target(draw: Random) -> tuple[bytes, Callable[[], object]]:
        entry.mkdir(exist_ok=True)
        for path, content in whole.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
        _, _, after = _mutated_file(entry, draw, draw.choice(("meta.json", "meta.json", "*_labels.npy", "*_theta.npy")))
        return after, load

    return target


TARGETS: dict[str, tuple[Callable[[Path], Target], int]] = {
    "sweep files": (sweep_files, 55),
    "files of a study": (study_files, 12),
    "files of a ledger": (ledger_files, 16),
    "checkpoints": (checkpoint_files, 12),
    "cache entries": (cache_entries, 5),
}
"""Each target and its share of all mutations, in per cent."""
