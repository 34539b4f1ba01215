"""The source that a run's result depends on: which files, and what they say but for comments, docstrings and layout.

Imports are followed statically from what all runs share and from the run's own parts, within the project. What only
keeps or tells results is left out, and so are tasks: their images are in the run's key.
"""

import ast
import hashlib
import json
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache as cached
from importlib import import_module
from pathlib import Path

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from experiments.images.corruptions import CORRUPTIONS
from experiments.images.poses import POSES
from experiments.networks.models import MODELS
from experiments.networks.variants import LIBRARIES, parse_variant
from ledger.config import RunConfig
from ledger.files import write_atomically
from ledger.options import split_name
from ledger.source_code import Code

ROOMS = ("stn", "baselines", "ledger", "experiments")
FOLDERS = {room: Path(import_module(room).__path__[0]) for room in ROOMS}
"""Which on the nodes of a cluster do not lie side by side."""
SHARED = "experiments.runs.run"
"""What a worker knows: the training loop, the scores and all that they need."""
NO_RESULT = frozenset(
    {
        *(f"ledger.{name}" for name in ("checksums", "committed", "errors", "files", "forms", "ledger", "listed")),
        *(f"ledger.{name}" for name in ("nearest_names", "private_text", "roles", "source_code", "started")),
        *(f"experiments.machine.{name}" for name in ("cores", "heartbeat", "home")),
        "experiments.images.tasks",
        "experiments.runs.code",
    }
)
"""Modules, and packages with all in them, that keep results or say something to people, and change none."""
OF_LIBRARIES = frozenset({*(library.__module__ for library in LIBRARIES.values()), "experiments.networks.weights"})
"""Modules that count for runs on a library's network, and for no others."""
HASH_LENGTH = 12
MEMORY = "code.json"
"""In the cache: by the content of a source file its hash and its imports, since to parse all takes long."""
MAX_KEPT = 2000
"""Sources, of which the latest stay."""


def code_of(run: RunConfig, cache: Path) -> Code:
    """The files that the run's result depends on. cache: folder that keeps what is known of the sources."""
    _remember(cache)
    variant = parse_variant(run.variant)
    parts: list[object] = [
        MODELS[variant.model],
        LIBRARIES[variant.library] if variant.library else BACKBONES[variant.backbone],
        *(POLICIES[name] for name in variant.policies),
    ]
    parts += [POSES[split_name(pose, "pose")[0]] for pose in (run.pose, run.test_pose) if pose]
    modules = {SHARED, *(part.__module__ for part in parts)}
    if run.stage != "trial" and run.protocol.robustness != "none":
        package = sys.modules[CORRUPTIONS.package]
        modules |= {f"{CORRUPTIONS.package}.{each.name}" for each in pkgutil.iter_modules(package.__path__)}
    num_known = len(_memory)
    code = _files(frozenset(modules), frozenset() if variant.library else OF_LIBRARIES)
    if len(_memory) > num_known:
        _keep(cache)
    return code


@cached
def _sources() -> dict[str, bytes]:
    """What the project's files hold when this is asked first: whoever edits them later does not change what runs."""
    return {
        f"{room}/{file.relative_to(folder).as_posix()}": file.read_bytes()
        for room, folder in FOLDERS.items()
        for file in folder.rglob("*.py")
    }


@cached
def _files(modules: frozenset[str], left_out: frozenset[str]) -> Code:
    found, todo, seen = dict[str, str](), list(modules), {*modules, *left_out}
    while todo:
        module = todo.pop()
        if not (file := _file(module)):
            continue
        found[file], imports = _hash_and_imports(file)
        names = module.split(".")
        reached = {*imports, *(".".join(names[:number]) for number in range(1, len(names)))} - seen
        seen |= reached
        todo += reached
    return found


@cached
def _file(module: str) -> str:
    """The module's file; "" for a name in a module, another library, and what changes no result."""
    names = module.split(".")
    if any(".".join(names[:number]) in NO_RESULT for number in range(1, len(names) + 1)):
        return ""
    place = "/".join(names)
    return next((file for file in (f"{place}.py", f"{place}/__init__.py") if file in _sources()), "")


_memory: dict[str, tuple[str, list[str]]] = {}


@cached
def _remember(folder: Path) -> None:
    """Take up what the cache has of sources."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        for key, (hashed, imports) in json.loads((folder / MEMORY).read_bytes()).items():
            _memory[str(key)] = str(hashed), list(map(str, imports))


def _keep(folder: Path) -> None:
    with suppress(OSError):  # it is worth a fraction of a second
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / MEMORY, json.dumps(dict(list(_memory.items())[-MAX_KEPT:])).encode())


def _key(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()[:24]} {sys.version_info.major}.{sys.version_info.minor}"


@cached
def _hash_and_imports(file: str) -> tuple[str, list[str]]:
    content = _sources()[file]
    key = _key(content)
    if key not in _memory:
        try:
            tree = ast.parse(content)
        except SyntaxError:  # somebody is at work on it, and what runs is what it was before
            return hashlib.sha256(content).hexdigest()[:HASH_LENGTH], []
        imports = sorted(set(_imports(tree)))
        _memory[key] = hashlib.sha256(_said(tree).encode()).hexdigest()[:HASH_LENGTH], imports
    return _memory[key]


def _imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names that may be modules; the project imports by whole names only, which a test holds."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from _with_packages(name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from _with_packages(f"{module}.{name.name}" for name in names)


def _with_packages(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name.split(".")[0] in ROOMS:
            yield name
            yield name.rpartition(".")[0]


def _said(tree: ast.Module) -> str:
    """The program without texts that stand alone, in the one spelling that Python gives it."""
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [each for each in body if not _is_text(each)]
    return ast.unparse(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
