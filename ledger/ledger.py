"""The ledger: the folder of finished runs, and the only truth; docs/ledger.md has its files. The one place that writes
runs: a folder appears whole, by one rename, or not at all.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ledger.checksums import LEFT_OUT, SUMS, WEIGHTS, read_sums, with_digest, write_sums
from ledger.committed import not_as_committed, read_as_it_is, read_committed, read_json, read_manifest, read_record
from ledger.errors import UserError, remedy
from ledger.files import flush_folder, process_is_alive, to_json, write_atomically
from ledger.forms import is_whole
from ledger.listed import keys_of

SWEEP = "sweep.progress"
"""Beside the marks of runs in progress, how far the sweep is."""


class Unwritable(UserError):
    """The disk does not take what is to be kept."""


class Ledger:
    """The folder of finished runs. Raises Unwritable where it cannot be made or written.

    root: made if missing. read_only: make nothing and write nothing.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.root = root
        if read_only:
            return
        try:
            for folder in (self.root / "runs", self.root / "studies", self.root / "running"):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe.{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> Unwritable:
        return Unwritable(f"runs: the ledger {self.root} cannot be written ({error.strerror}){remedy(error)}")

    def folder(self, key: str) -> Path:
        return self.root / "runs" / key

    def __contains__(self, key: str) -> bool:
        return (self.folder(key) / "run.json").exists()

    def __len__(self) -> int:
        return sum(key in self for key in self.folders())

    def folders(self) -> list[str]:
        """Names of the folders where runs are, of whatever else lies there, too; not of hidden ones."""
        entries = (self.root / "runs").glob("*")
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

    def read(self, key: str, name: str = "run.json") -> Any:
        """A JSON file of a run, as it was committed.

        Raises UserError for one of a newer version, one that was damaged or edited since, and one of another run.
        """
        path = self.folder(key) / name
        value = read_record(path)
        if name == "run.json" and value.get("key", key) != key:
            raise not_as_committed(path, f"is of the run {value['key']!r:.80}")
        return value

    def check(self, key: str) -> None:
        """Raises UserError unless every file of the run is as it was committed; nothing is known of older runs."""
        sums = self.folder(key) / SUMS
        if not sums.exists():
            return
        try:
            names = read_sums(read_as_it_is(sums))
        except ValueError:
            raise not_as_committed(sums, "was damaged or edited: it is not a list of checksums") from None
        for name in names:
            if name != WEIGHTS or not sums.with_name(LEFT_OUT).exists():
                read_committed(sums.with_name(name))

    def commit(self, key: str, files: Mapping[str, bytes]) -> None:
        """Put a finished run into the ledger, whole, with the checksums of its files.

        A run that is there already stays as it is; what is left of one without its run.json goes.
        Raises Unwritable where that cannot be; nothing of it is left then.
        """
        self.put(key, {**files, SUMS: write_sums(files)})

    def put(self, key: str, files: Mapping[str, bytes]) -> None:
        """The same of a run that was committed elsewhere, with what checksums it has."""
        temporary = self.root / "runs" / f".{key}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            if self.folder(key).is_dir() and key not in self:  # in this order: another process may commit it now
                self.remove(key)
            temporary.mkdir()
            for name, content in files.items():
                with open(temporary / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            flush_folder(temporary)
            temporary.rename(self.folder(key))
            flush_folder(self.root / "runs")
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if key not in self:
                raise self._unwritable(error) from error
        self.forget_running(key)

    def give_weights(self, key: str, content: bytes) -> None:
        """Put a run's weights to it, which an archive had left out."""
        beside = self.root / "runs" / f".{key}.{os.getpid()}"
        try:
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(self.folder(key) / WEIGHTS)
            flush_folder(self.folder(key))
            (self.folder(key) / LEFT_OUT).unlink(missing_ok=True)
        except OSError as error:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def remove(self, key: str) -> None:
        """Take a run out, so that it can be made and logged again: hidden by one rename, then deleted."""
        doomed = self.root / "runs" / f".{key}.{os.getpid()}"
        shutil.rmtree(doomed, ignore_errors=True)
        for marker in self.root.glob(f"*/logged/{key}"):  # first: beside no run, it would tell of a loss
            marker.unlink(missing_ok=True)
        self.folder(key).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def mark_running(self, key: str, progress: Mapping[str, Any]) -> None:
        """Say how far a run is, for those who watch. Not flushed: it is worth nothing after a crash."""
        self._mark(self.root / "running" / f"{key}.json", progress)

    def mark_sweep(self, progress: Mapping[str, Any]) -> None:
        """Say how far the sweep is, as `mark_running` does of a run."""
        self._mark(self.root / "running" / SWEEP, progress)

    def _mark(self, path: Path, progress: Mapping[str, Any]) -> None:
        temporary = path.with_suffix(f".{os.getpid()}")
        try:
            temporary.write_text(json.dumps({**progress, "pid": os.getpid()}), encoding="utf-8")
            temporary.replace(path)
        except OSError:  # no reason to end a run; a full disk shows when it is committed
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def forget_running(self, key: str) -> None:
        """A run that is committed, or given up, needs neither its mark nor its checkpoints."""
        with suppress(OSError):  # they do no harm; the next sweep tries again
            (self.root / "running" / f"{key}.json").unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints(key), ignore_errors=True)

    def forget_sweep(self) -> None:
        with suppress(OSError):
            (self.root / "running" / SWEEP).unlink(missing_ok=True)

    def checkpoints(self, key: str) -> Path:
        """The folder of a run's checkpoints, which need not exist; experiments/runs/checkpoints.py writes there."""
        return self.root / "running" / key

    def running(self) -> dict[str, dict[str, Any]]:
        """Runs in progress by key, of processes that live."""
        alive = cache(process_is_alive)  # a cluster's runs all have their supervisor's
        marks = {path.stem: _mark_of(path, alive) for path in sorted((self.root / "running").glob("*.json"))}
        return {key: mark for key, mark in marks.items() if mark is not None}

    def sweep(self) -> dict[str, Any] | None:
        """How far the sweep is that makes runs here; None where none does."""
        return _mark_of(self.root / "running" / SWEEP, process_is_alive)

    def sweep_up(self) -> None:
        """Delete what killed processes left: half-written runs and manifests, marks of runs in progress.

        Checkpoints stay while they can be of use: those of runs in progress, and those of runs that a study lists and
        that the ledger lacks.
        """
        places = (
            ".probe.*",
            ".sweep.holder.*",
            ".archive.*",
            "runs/.*",
            "studies/*/.*",
            "running/*",
            "*/logged/.*",
        )
        for entry in [path for place in places for path in self.root.glob(place)]:
            if "." not in entry.name:
                continue  # checkpoints
            suffix = entry.name.rsplit(".", 1)[-1]
            try:
                pid = int(suffix) if suffix.isdigit() else read_json(entry)["pid"]
            except (OSError, ValueError, LookupError, TypeError):
                continue
            if not is_whole(pid) or process_is_alive(pid):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        try:
            arms = [arm for study in self.studies() for arm in self.read_study(study, whole=False).get("arms", ())]
            wanted = self.running().keys() | {key for arm in arms for key in keys_of(arm)}
        except (OSError, ValueError, LookupError, TypeError):
            return  # a study cannot be read, and may want any of the checkpoints
        for folder in (self.root / "running").glob("*/"):
            if folder.name in self or folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def write_study(self, study: str, manifest: Mapping[str, Any]) -> None:
        """Write what a study consists of."""
        folder = self.root / "studies" / study
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "study.json", to_json(with_digest(manifest)))

    def studies(self) -> list[str]:
        """Names of the studies whose manifest is here, the latest first."""
        manifests = (self.root / "studies").glob("*/study.json")
        return [path.parent.name for path in sorted(manifests, key=lambda path: path.stat().st_mtime, reverse=True)]

    def read_study(self, study: str, *, whole: bool = True) -> dict[str, Any]:
        """What a study consists of.

        Raises UserError for a manifest of a newer version, one that was damaged or edited, and one of another form.
        whole: nothing may be lacking either.
        """
        return read_manifest(self.root / "studies" / study / "study.json", whole=whole)


def _mark_of(path: Path, alive: Callable[[int], bool]) -> dict[str, Any] | None:
    """What a process that lives has marked there."""
    try:
        progress = read_json(path)
    except (OSError, ValueError):
        return None  # it has just ended
    is_there = isinstance(progress, dict) and is_whole(pid := progress.get("pid")) and alive(pid)
    return progress if is_there else None
