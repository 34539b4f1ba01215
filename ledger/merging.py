"""Ledgers of several machines, or archives of them, into one. All is looked at before anything is changed."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ledger.archive import opened
from ledger.audit import sound
from ledger.checksums import LEFT_OUT, SUMS, WEIGHTS, read_sums
from ledger.committed import read_committed, read_record, read_run
from ledger.comparison import leave_out_later_scores
from ledger.config import RESULT_FORMAT
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import keys_of
from ledger.run_audit import check_run
from ledger.source_code import changed, files_text, unpacked
from ledger.sweep_lock import HOLDER, LOCK, only_sweep_of
from ledger.united_study import Manifest, Misfit, united
from ledger.wording import count, listed

MEASURED = ("cost.json", SUMS, LEFT_OUT)
"""Files that differ between two machines that make the same run, or of which it depends on what was kept."""
LIBRARIES = ("python", "torch", "torchvision", "numpy")
"""Versions that the bytes of a run may depend on."""
OF_SOME = ("timm",)
"""The same of runs that say so: those on a network of the library's."""
UNPACKED = re.compile(r"\.archive\.\d+\.\d+")
OURS = re.compile(rf"{re.escape(LOCK)}|{re.escape(HOLDER)}|\.{re.escape(HOLDER)}\.\d+|{UNPACKED.pattern}")
"""What a merge that was killed may leave where no run is yet."""
NOTHING = "nothing was merged"


def merge(sources: Sequence[Path], into: Path) -> list[str]:
    """Put the runs and studies of the sources into the ledger, which is made if missing; says what was done, in lines.

    A run is there whole or not at all, whenever this is stopped, and a study as it was or as it is to be; the runs
    come first. The same command goes on. Raises UserError, and has changed nothing, where the sources contradict each
    other or the ledger, or one of them is not as it was written.
    """
    for source in sources:
        if not source.exists():
            raise UserError(f"from: there is no ledger at {source}")
        if into.exists() and source.samefile(into):
            raise UserError(f"into: {into} is to be merged into itself; name another ledger")
    if into.exists() and not all(map(OURS.fullmatch, os.listdir(into))) and not (into / "runs").is_dir():
        raise UserError(f"into: {into} is not a ledger: it has no folder `runs`")
    with ExitStack() as stack:
        stack.enter_context(only_sweep_of(into))
        for left in filter(UNPACKED.fullmatch, os.listdir(into)):  # by a merge that was killed
            shutil.rmtree(into / left, ignore_errors=True)
        merging = Merging(into)
        for number, source in enumerate(sources):
            root = stack.enter_context(opened(source, into / f".archive.{number}.{os.getpid()}"))
            merging.add(root, source)
        return merging.commit()


class Merging:
    """What is to be put into a ledger. It stays as it is until `commit`.

    weights: of runs that are there, or will be, without theirs.
    """

    def __init__(self, into: Path) -> None:
        self.ledger = Ledger(into, read_only=True)
        self.runs: dict[str, Path] = {}
        self.weights: dict[str, Path] = {}
        self.studies: dict[str, dict[str, Any]] = {}
        self.lines: list[str] = []

    def add(self, root: Path, called: Path) -> None:
        """Take what is new in the ledger at root. Raises UserError where it contradicts what is there."""
        audit, source = sound(root, called), Ledger(root, read_only=True)
        if not audit.runs:
            raise UserError(f"from: {called} holds no run; {NOTHING}")
        known = {key: folder for key in audit.runs if (folder := self._folder(key))}
        if conflicts := [text for key in known if (text := _difference(known[key], source.folder(key)))]:
            more = f" (and {count(len(conflicts) - 1, 'other run')} so)" if conflicts[1:] else ""
            raise UserError(f"{called}/{conflicts[0]}{more}; {NOTHING}")
        new = {key: source.folder(key) for key in audit.runs.keys() - known.keys()}
        told = [f"{called}: {count(len(new), 'run')} taken, {len(known):,} there already"]
        lacking = {key for key, folder in known.items() if (folder / LEFT_OUT).exists()} - self.weights.keys()
        weights = {key: path for key in lacking if (path := source.folder(key) / WEIGHTS).exists()}
        if weights:
            told.append(f"  it has the weights of {count(len(weights), 'run')}, which were left out here")
        if old := sum(run.record is not None and run.record["format"] < RESULT_FORMAT for run in audit.runs.values()):
            told.append(f"  {old:,} of older formats: this version reads them, and makes no more")
        for name in reversed(source.studies()):  # so that the latest of them stays the latest
            theirs, mine = source.read_study(name), self._study(name)
            if mine is None:
                self.studies[name] = theirs
                continue
            told += self._other_makers(f"{called}/studies/{name}", mine, theirs, new)
            try:
                whole = united(mine, theirs)
            except Misfit as misfit:
                raise UserError(f"{called}/studies/{name}/study.json: {misfit}; {NOTHING}") from None
            except (LookupError, TypeError, ValueError, AttributeError) as fault:
                lacks = (
                    f"it, or that of {self.ledger.root}, lacks what it should hold ({type(fault).__name__}: {fault})"
                )
                raise UserError(f"{called}/studies/{name}/study.json: {lacks}; {NOTHING}") from None
            if whole != mine:
                self.studies[name] = whole
        self.runs |= new
        self.weights |= weights
        self.lines += told

    def commit(self) -> list[str]:
        """Put it there, runs before the studies that list them. Raises UserError where that cannot be."""
        ledger = Ledger(self.ledger.root)
        for key, folder in sorted(self.runs.items()):
            ledger.put(key, read_run(folder))
        for key, path in sorted(self.weights.items()):
            ledger.give_weights(key, read_committed(path))
        for name, manifest in self.studies.items():
            ledger.write_study(name, manifest)
        studies = f"; studies: {listed(sorted(self.studies))}" if self.studies else ""
        return [*self.lines, f"{ledger.root}: {count(len(self.runs), 'run')} more{studies}"]

    def _folder(self, key: str) -> Path | None:
        """Where the run is that is there, or will be. Raises UserError for one that is not as it was committed."""
        if key in self.runs:
            return self.runs[key]
        if key not in self.ledger:
            return None
        folder = self.ledger.folder(key)
        if findings := check_run(folder).findings:
            path, kind, what, todo = findings[0]
            raise UserError(f"{self.ledger.root}/{path}: {kind}: {what}; {todo}; {NOTHING}")
        return folder

    def _study(self, name: str) -> dict[str, Any] | None:
        if name in self.studies or name not in self.ledger.studies():
            return self.studies.get(name)
        return self.ledger.read_study(name)

    def _other_makers(self, called: str, mine: Manifest, theirs: Manifest, new: Mapping[str, Path]) -> list[str]:
        """Says which machines made the study's new runs and none of those that are there.

        Raises UserError for other versions of what the bytes of a run depend on.
        """
        old = [self.runs.get(key) or self.ledger.folder(key) for key in _keys(mine)]
        sides = [folder for folder in old if folder.exists()], [new[key] for key in _keys(theirs) if key in new]
        for libraries in (OF_SOME, LIBRARIES):
            here, there = ({_maker(folder, libraries) for folder in folders} - {None} for folders in sides)
            (versions, machines), (others, strangers) = (
                [sorted({maker[part] for maker in makers if maker}) for part in (0, 1)] for makers in (here, there)
            )
            if here and {*others} - {*versions}:
                two = f"with {' and with '.join(others)}, and those here with {' and with '.join(versions)}"
                raise UserError(f"{called}: its runs were made {two}: one study does not mix the two; {NOTHING}")
        if here and {*strangers} - {*machines}:
            return [f"  {called}: made on {listed(strangers)}, and what is here on {listed(machines)}"]
        return []


def _keys(manifest: Manifest) -> Iterator[str]:
    return (key for arm in manifest["arms"] for key in keys_of(arm))


def _maker(folder: Path, libraries: Sequence[str] = (*LIBRARIES, *OF_SOME)) -> tuple[str, str] | None:
    """Versions and machine that made the run; None where it does not say."""
    cost = read_record(folder / "cost.json")
    known = cost.get("versions") or {}
    versions = {name: known[name].split("+")[0] for name in libraries if name in known}
    if "python" in versions:
        versions["python"] = ".".join(versions["python"].split(".")[:2])
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (text, cost.get("device_name") or cost.get("device") or "an unknown machine") if text else None


def _difference(mine: Path, theirs: Path) -> str:
    """In which files the run there differs from the same run here, and what may be why; "" for the same bytes."""
    here, there = (_digests(folder) for folder in (mine, theirs))
    light = any((folder / LEFT_OUT).exists() for folder in (mine, theirs))
    unknown = {WEIGHTS} - (here.keys() & there.keys()) if light else set()  # without checksums
    names = sorted(name for name in (here.keys() | there.keys()) - unknown if here.get(name) != there.get(name))
    if "run.json" in names and _say_the_same(mine, theirs):
        names.remove("run.json")
    if not names:
        return ""
    ends, makers = ([of(folder) for folder in (mine, theirs)] for of in (_status, _maker))
    why = f", {ends[1]} there and {ends[0]} here" if ends[0] != ends[1] else ""
    if makers[0] and makers[1] and makers[0] != makers[1]:
        why += f", made on {' with '.join(makers[1][::-1])} there and on {' with '.join(makers[0][::-1])} here"
    codes = [unpacked(read_record(folder / "cost.json").get("code") or {}) for folder in (mine, theirs)]
    if all(codes) and (files := changed(*codes)):
        why += f", made by another {files_text(files)}"
    return f"runs/{theirs.name}: is the same run as here with another {listed(names)}{why}"


def _say_the_same(mine: Path, theirs: Path) -> bool:
    """Whether the two run.json differ at most in scores that came later than one of them."""
    here, there = (read_record(folder / "run.json") for folder in (mine, theirs))
    leave_out_later_scores(here, there)
    leave_out_later_scores(there, here)
    return repr(here) == repr(there)  # which, unlike ==, tells 1 from 1.0


def _status(folder: Path) -> str:
    return str(read_record(folder / "run.json")["status"])


def _digests(folder: Path) -> dict[str, str]:
    """Hashes of the run's files, but for what two machines do not have alike. The run is as it was committed."""
    if (folder / SUMS).exists():
        digests = read_sums((folder / SUMS).read_bytes())
    else:
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in read_run(folder).items()}
    return {name: digest for name, digest in digests.items() if name not in MEASURED}
