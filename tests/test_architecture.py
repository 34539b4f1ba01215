"""The house of docs/architecture.md, held: who imports whom, who owns what, names and lengths of files."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support.project import ROOT

ROOMS = ("ledger", "stn", "baselines", "experiments", "analysis", "benchmarks", "tests")
MAX_LINES = 400

FILES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
TREES = {file: ast.parse(text, file) for file, text in FILES.items()}


def room(file: str) -> str:
    return file.split("/")[0]


def imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a module imports, wherever it does and however it spells it; its own package's as `.name`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(level=0, module=str(module), names=names):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.ImportFrom(names=names):
                yield from (f".{name.name}" for name in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module


def packages(file: str) -> set[str]:
    """Top-level packages that a file imports, its own room's left out."""
    names = {name.split(".")[0] for name in imported(TREES[file])}
    return names - {"", room(file)}


def uses(tree: ast.Module, name: str) -> bool:
    """Whether a module says this name: as a variable, an attribute, an import or getattr's text."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=said) | ast.Attribute(attr=said) | ast.Constant(value=str(said)) if said == name:
                return True
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                if any(name in alias.name.split(".") for alias in names):
                    return True
    return False


def reads(tree: ast.Module, attribute: str) -> bool:
    """Whether a module reads this attribute of anything."""
    return any(isinstance(node, ast.Attribute) and node.attr == attribute for node in ast.walk(tree))


def in_room(*rooms: str) -> list[str]:
    return [file for file in FILES if room(file) in rooms]


def test_every_room_was_read() -> None:
    assert {room(file) for file in FILES} == set(ROOMS)


@pytest.mark.parametrize(
    ("house", "allowed"),
    [("stn", {"torch"}), ("baselines", {"torch", "torchvision", "timm", "huggingface_hub"})],
)
def test_the_libraries_import_nothing_else(house: str, allowed: set[str]) -> None:
    strangers = {file: packages(file) - allowed - sys.stdlib_module_names for file in in_room(house)}
    assert not {file: names for file, names in strangers.items() if names}


@pytest.mark.parametrize(
    ("house", "forbidden", "exempt"),
    [
        ("ledger", {"torch", "torchvision", "stn", "baselines", "experiments", "analysis", "benchmarks"}, ()),
        ("analysis", {"torch", "torchvision", "stn", "baselines", "experiments", "benchmarks"}, ()),
        ("experiments", {"analysis"}, ("experiments/terminal/commands/",)),
        ("experiments", {"benchmarks", "tests"}, ()),
        ("stn", {"tests"}, ()),
        ("baselines", {"tests"}, ()),
        ("analysis", {"tests"}, ()),
        ("benchmarks", {"tests"}, ()),
    ],
)
def test_imports_go_one_way(house: str, forbidden: set[str], exempt: tuple[str, ...]) -> None:
    crossing = {file: packages(file) & forbidden for file in in_room(house) if not file.startswith(exempt)}
    assert not {file: names for file, names in crossing.items() if names}


def modules() -> dict[str, str]:
    """By its dotted name, each file of the product."""
    files = [file for file in FILES if room(file) != "tests"]
    return {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in files}


def cycles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Names that arrows lead from back to; each list is a way round."""
    targets: dict[str, set[str]] = {}
    for source, target in arrows:
        targets.setdefault(source, set()).add(target)
    try:
        TopologicalSorter(targets).prepare()
    except CycleError as error:
        return [error.args[1]]
    return []


def test_no_file_imports_itself_by_a_detour_and_no_folder_does() -> None:
    """In each folder, the files and folders in it have an order. A folder's own `__init__` is none of them."""
    known = modules()
    arrows = {
        (source, target if target in known else target.rpartition(".")[0])
        for source, file in known.items()
        for target in imported(TREES[file])
        if {target, target.rpartition(".")[0]} & set(known)
    }
    assert cycles((source, target) for source, target in arrows if source != target) == []
    folders = {""} | {name for name, file in known.items() if file.endswith("__init__.py")}
    for folder in folders:
        start = f"{folder}." if folder else ""
        inside = {
            tuple(name.removeprefix(start).split(".")[0] for name in arrow)
            for arrow in arrows
            if all(name.startswith(start) for name in arrow)
        }
        assert (folder, cycles((source, target) for source, target in inside if source != target)) == (folder, [])


def test_the_way_round_is_found() -> None:
    assert cycles([("a", "b"), ("b", "c"), ("a", "c")]) == []
    assert set(cycles([("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")])[0]) == {"a", "b", "c"}


def test_no_file_lies_loose_in_experiments() -> None:
    loose = {file for file in FILES if room(file) == "experiments" and file.count("/") == 1}
    assert loose == {"experiments/__init__.py", "experiments/__main__.py"}


@pytest.mark.parametrize(
    ("package", "owner"),
    [
        ("optuna", "experiments/study/search.py"),
        ("timm", "baselines/backbones/timm_network.py"),
        ("trackio", "experiments/tracking/trackio_database.py"),
        ("wandb", "experiments/tracking/replay.py"),
        ("wandb_workspaces", "experiments/tracking/report.py"),
    ],
)
def test_a_service_has_one_owner(package: str, owner: str) -> None:
    assert {file for file in FILES if room(file) != "tests" and package in packages(file)} == {owner}


def test_one_folder_knows_of_ray() -> None:
    knowing = [file for file in FILES if room(file) != "tests" and "ray" in packages(file)]
    assert len(knowing) > 1 and all(file.startswith("experiments/sweep/executors/ray/") for file in knowing)


def test_images_are_sampled_in_one_place() -> None:
    files = in_room("stn", "baselines", "experiments", "analysis")
    assert {file for file in files if uses(TREES[file], "grid_sample")} == {"stn/sampler.py"}


def test_the_test_part_is_read_in_one_place() -> None:
    readers = {file for file in in_room("experiments", "analysis", "baselines", "stn") if reads(TREES[file], "test")}
    assert "experiments/runs/evaluation.py" in readers
    outside = {file for file in readers if not file.startswith("experiments/images/tasks/")}
    assert outside == {"experiments/runs/evaluation.py"}


def test_files_are_called_after_what_they_hold() -> None:
    vague = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?|stuff|lib|core)(_|\.|/|$)")
    assert not [file for file in FILES if any(vague.search(part) for part in file.removesuffix(".py").split("/"))]


def test_no_file_is_long() -> None:
    lengths = {file: len(text.splitlines()) for file, text in FILES.items()}
    assert not {file: length for file, length in lengths.items() if length > MAX_LINES}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b, c as d", ["a.b", "c"]),
        ("from a.b import c", ["a.b.c"]),
        ("def f():\n    if True:\n        import a", ["a"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import b", ["typing.TYPE_CHECKING", "a.b"]),
        ("import importlib\nimportlib.import_module('a.b')", ["importlib", "a.b"]),
        ("from . import a\nfrom .b import c", [".a", ".c"]),
    ],
)
def test_the_reader_of_imports_sees_them_all(source: str, names: list[str]) -> None:
    assert list(imported(ast.parse(source))) == names


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from torch.nn.functional import grid_sample as g", True),
        ("import torch\ntorch.nn.functional.grid_sample(x, y)", True),
        ("getattr(F, 'grid_sample')", True),
        ("grid_sampler = 1  # grid_sample", False),
    ],
)
def test_the_reader_of_names_sees_them_all(source: str, found: bool) -> None:
    assert uses(ast.parse(source), "grid_sample") is found


def decodes_by_locale(call: ast.Call) -> bool:
    """Whether a file is opened as text of whatever encoding the user's locale has."""
    match call.func:
        case ast.Attribute(value=ast.Name(id="os" | "Image" | "tarfile" | "opener"), attr="open"):  # none of text
            return False
        case ast.Name(id="open") | ast.Attribute(attr="open" | "fdopen" | "read_text" | "write_text"):
            texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
            is_binary = any(re.fullmatch("[rwax]+b[+]?", str(text)) for text in texts)
            return not is_binary and all(keyword.arg != "encoding" for keyword in call.keywords)
    return False


def test_files_of_text_are_utf_8_whatever_the_locale() -> None:
    """Tests may do as they like: their text is theirs."""
    files = [file for file in FILES if room(file) != "tests"]
    calls = {file: [node for node in ast.walk(TREES[file]) if isinstance(node, ast.Call)] for file in files}
    assert [f"{file}:{call.lineno}" for file in files for call in calls[file] if decodes_by_locale(call)] == []
    assert decodes_by_locale(ast.parse("path.read_text()", mode="eval").body)  # type: ignore[arg-type]
