"""What a run says of its source: all that it executes, and nothing that cannot change its result."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
import torch

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from baselines.registry import Registry
from experiments.images.corruptions import CORRUPTIONS
from experiments.images.poses import POSES
from experiments.networks.models import MODELS
from experiments.runs import code
from experiments.runs.code import MEMORY, NO_RESULT, ROOMS, code_of
from experiments.runs.run import make_run
from ledger.config import RunConfig
from ledger.ledger import Ledger
from ledger.source_code import changed, packed, unpacked
from tests.support.project import ROOT
from tests.support.trained_runs import TINY, job_on_sprites

VARIANTS = ("cnn", "cnn+elastic", "cnn+affine", "stn_affine", "stn_affine@lenet+elastic")
RUNS = {variant: RunConfig(variant=variant, stage="trial") for variant in VARIANTS}
TESTED = RunConfig(stage="final")


def forget() -> None:
    for known in (code._sources, code._files, code._file, code._hash_and_imports, code._remember):
        known.cache_clear()
    code._memory.clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the source, to change; the program that is running is that of before."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    forget()
    monkeypatch.setattr(code, "FOLDERS", {room: tmp_path / room for room in ROOMS})
    yield tmp_path
    forget()


def codes(cache: Path) -> dict[str, dict[str, str]]:
    forget()
    return {name: code_of(run, cache) for name, run in {**RUNS, "tested": TESTED}.items()}


def edited(project: Path, file: str, old: str, new: str) -> set[str]:
    """Names of the runs whose code is another one after the edit."""
    before, path = codes(project), project / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = codes(project)
    assert {each for name in after for each in changed(before[name], after[name])} <= {file}
    return {name for name in after if before[name] != after[name]}


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("baselines/policies/elastic.py", "CONTROLS = 8", "CONTROLS = 9", {"cnn+elastic", "stn_affine@lenet+elastic"}),
        ("baselines/policies/rotate.py", "import torch", "import torch, math", {"cnn+affine"}),
        ("baselines/backbones/lenet.py", "nn.Flatten(", "nn.Flatten(1", {"stn_affine@lenet+elastic"}),
        ("stn/guidance/prior.py", "import torch", "import torch, math", {"stn_affine", "stn_affine@lenet+elastic"}),
        ("experiments/images/corruptions/blur.py", "import torch", "import torch, math", {"tested"}),
        ("experiments/runs/averaging.py", "AVERAGE_EVERY = 5", "AVERAGE_EVERY = 6", {*VARIANTS, "tested"}),
        ("experiments/images/whole_groups.py", "import math", "import math, os", {*VARIANTS, "tested"}),
        ("baselines/backbones/timm_network.py", "import torch", "import torch, math", set()),
        ("experiments/networks/weights.py", "DIGITS = 16", "DIGITS = 17", set()),
        ("experiments/runs/training.py", "def train(", "def train( # as ever\n", set()),
        ("experiments/runs/training.py", '"""', '"""Another word. ', set()),
        ("experiments/runs/averaging.py", "AVERAGE_EVERY = 5", "AVERAGE_EVERY = (\n    5\n)\n'Steps'", set()),
        ("ledger/ledger.py", "import json", "import json, math", set()),
        ("experiments/images/tasks/cifar10.py", "import hashlib", "import hashlib, math", set()),
        ("experiments/terminal/cli.py", "import argparse", "import argparse, math", set()),
    ],
)  # fmt: skip
def test_a_change_concerns_the_runs_that_it_can_change(
    project: Path, file: str, old: str, new: str, stale: set[str]
) -> None:
    assert edited(project, file, old, new) == stale


def test_what_is_edited_while_the_program_runs_is_not_what_runs(project: Path) -> None:
    before = codes(project)["cnn"]
    for content in ("AVERAGE_EVERY = 6\n", "AVERAGE_EVERY = (\n"):
        (project / "experiments/runs/averaging.py").write_text(content)
        assert code_of(RUNS["cnn"], project) == before
    assert changed(before, codes(project)["cnn"]) == ["experiments/runs/averaging.py"], "it cannot be parsed now"


def test_a_new_import_brings_its_file_in(project: Path) -> None:
    before = codes(project)
    (project / "stn/novel.py").write_text("ONE = 1\n")
    assert codes(project) == before, "nothing imports it"
    file = project / "baselines/policies/elastic.py"
    file.write_text(file.read_text() + "\n\ndef late() -> None:\n    from stn.novel import ONE\n\n    print(ONE)\n")
    new = codes(project)["cnn+elastic"]
    assert changed(before["cnn+elastic"], new) == ["baselines/policies/elastic.py", "stn/novel.py"]


def test_a_network_of_a_library_brings_the_file_that_builds_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.networks.weights.known_networks", lambda: ("resnet18",))
    of_timm = changed(code_of(RunConfig(), cache), code_of(RunConfig(variant="cnn@timm:resnet18"), cache))
    assert {"baselines/backbones/timm_network.py", "experiments/networks/weights.py"} <= {*of_timm}
    assert "baselines/backbones/cnn.py" in of_timm, "it has one backbone"


def test_it_is_the_same_where_the_packages_lie_apart(cache: Path, tmp_path: Path) -> None:
    """As Ray unpacks them on its nodes."""
    for room in ROOMS:
        (tmp_path / f"of {room}").mkdir()
        (tmp_path / f"of {room}" / room).symlink_to(ROOT / room)
    ask = (
        "import json, pathlib; from experiments.runs.code import code_of; from ledger.config import RunConfig; "
        "print(json.dumps(code_of(RunConfig(stage='final'), pathlib.Path('cache'))))"
    )
    path = os.pathsep.join(str(tmp_path / f"of {room}") for room in ROOMS)
    told = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        check=True,
    )
    assert json.loads(told.stdout) == code_of(TESTED, cache)


@pytest.mark.long
@pytest.mark.parametrize("variant", ["stn_affine+affine", "cnn_matched@lenet+flip_crop"])
def test_what_a_run_executes_is_in_its_code(variant: str, tmp_path: Path, cache: Path) -> None:
    protocol = replace(TINY, robustness="quick", robustness_images=4)
    run = RunConfig(variant=variant, pose="R", seed=3, protocol=protocol)
    job, executed = job_on_sprites(run, cache, tmp_path), set[str]()

    def note(frame: FrameType, event: str, argument: object) -> None:
        executed.add(frame.f_code.co_filename)

    known_before = code_of(run, cache)
    sys.settrace(note)
    try:
        make_run(job, torch.device("cpu"))
    finally:
        sys.settrace(None)
    ours = {Path(file).relative_to(ROOT) for file in executed if Path(file).is_relative_to(ROOT)}
    told = {".".join(file.with_suffix("").parts) for file in ours if file.parts[0] in ROOMS}
    told = {module.removesuffix(".__init__") for module in told}
    known = {file.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for file in known_before}
    assert len(told & known) > 20
    assert {module for module in told - known if not any(f"{module}.".startswith(f"{each}.") for each in NO_RESULT)} \
        == set()  # fmt: skip
    assert unpacked(Ledger(tmp_path).read(job.key, "cost.json")["code"]) == known_before


def test_what_is_known_of_sources_is_kept_and_never_trusted_when_damaged(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = project / "cache"
    before = codes(cache)
    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", None)
        assert codes(cache) == before
    for content in (b"", b"[]", b'{"a": 1}', b"\xff", b'{"a": ["b"]}'):
        (cache / MEMORY).write_bytes(content)
        assert codes(cache) == before


def test_without_a_cache_that_can_be_written_it_is_the_same(project: Path) -> None:
    (project / "cache").write_text("no folder")
    assert codes(project / "cache") == codes(project)


def test_what_is_packed_is_unpacked(cache: Path) -> None:
    known = code_of(TESTED, cache)
    assert len(known) > 60 and unpacked(packed(known)) == known
    assert changed(known, known) == []


def test_what_is_left_out_is_there() -> None:
    for module in NO_RESULT:
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), module


@pytest.mark.parametrize("registry", [MODELS, BACKBONES, POLICIES, POSES, CORRUPTIONS], ids=lambda each: str(each.kind))
def test_parts_say_which_file_they_are_of(registry: Registry[object]) -> None:
    assert all(part.__module__.startswith(f"{registry.package}.") for part in registry.values())


def test_modules_are_imported_by_their_whole_names() -> None:
    trees = [ast.parse(path.read_text()) for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert not [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
