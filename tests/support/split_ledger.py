"""The golden ledger of this version as a whole one, and halves of it as two folders would have made them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.checksums import LEFT_OUT, SUMS, WEIGHTS, read_sums, with_digest
from ledger.config import RESULT_FORMAT
from ledger.files import to_json
from ledger.listed import keys_of
from tests.support.project import ROOT

GOLDEN = ROOT / f"tests/golden/format-{RESULT_FORMAT}"
STUDY = "golden-sprites-smoke"
NUM_RUNS = 8


def whole_ledger(root: Path) -> Path:
    """A copy of which all is well: weights, which were left out, are said to be, and pictures were never there."""
    for name in ("runs", "studies"):
        shutil.copytree(GOLDEN / name, root / name)
    for folder in (root / "runs").iterdir():
        sums = read_sums((folder / SUMS).read_bytes())
        if WEIGHTS in sums:
            (folder / LEFT_OUT).touch()
        write_sums(folder, {name: sums[name] for name in sums if name == WEIGHTS or (folder / name).exists()})
    return root


def write_sums(folder: Path, sums: dict[str, str]) -> None:
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def renew(folder: Path) -> None:
    """What somebody does who wants an edit to go unnoticed."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in (SUMS, LEFT_OUT)}
    weights = {name: digest for name, digest in read_sums((folder / SUMS).read_bytes()).items() if name == WEIGHTS}
    write_sums(folder, weights | {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def manifest(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "studies" / STUDY / "study.json").read_text()))


def change_manifest(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    value = manifest(root)
    change(value)
    (root / "studies" / STUDY / "study.json").write_bytes(to_json(with_digest(value)))


def cut(root: Path, change: Callable[[dict[str, Any]], Any], *, seconds: float = 0.0) -> Path:
    """A whole ledger at root, with another manifest, without what that does not list, and made in other times."""
    whole_ledger(root)
    change_manifest(root, change)
    listed = {key for arm in manifest(root)["arms"] for key in keys_of(arm)}
    for folder in (root / "runs").iterdir():
        if folder.name not in listed:
            shutil.rmtree(folder)
        else:
            change_cost(folder, seconds=seconds)
    return root


def change_cost(folder: Path, **changes: Any) -> None:
    """Other measurements of a run, as another machine makes them."""
    content = to_json(json.loads((folder / "cost.json").read_text()) | changes)
    (folder / "cost.json").write_bytes(content)
    write_sums(folder, read_sums((folder / SUMS).read_bytes()) | {"cost.json": hashlib.sha256(content).hexdigest()})


def only_seed(seed: int) -> Callable[[dict[str, Any]], None]:
    """A study of one final seed, 1 or 2."""

    def change(study: dict[str, Any]) -> None:
        for plan in (study, study["first"]):
            plan.update(num_finals=1, first_seed=seed)
        for arm in study["arms"]:
            arm["finals"] = [arm["finals"][seed - 1]]

    return change


def only_variants(*places: int) -> Callable[[dict[str, Any]], None]:
    """A study of some of its arms."""

    def change(study: dict[str, Any]) -> None:
        study["arms"] = [study["arms"][place] for place in places]
        names = [arm["variant"] for arm in study["arms"]]
        for plan in (study, study["first"]):
            plan["claims"]["family"] = [each for each in plan["claims"]["family"] if each["variant"] in names]
            plan["spaces"] = {name: space for name, space in plan["spaces"].items() if name.partition("/")[2] in names}

    return change
