"""The ledger: the folder of finished runs, and the only truth. The one place that writes runs.

docs/architecture.md says what each file holds. A run's folder appears whole, by one rename, or not at all.
"""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.config import RESULT_FORMAT
from experiments.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Old content or new, never a mixture: a temporary file is flushed to disk, then renamed over the path."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Renames are on disk only when their folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_json(value: Any) -> bytes:
    """Readable, and the same bytes for the same value."""
    return (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def process_is_alive(pid: int) -> bool:
    """Whether the process can still do something; one that has ended and waits for its parent to notice cannot."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it has just ended, or this system has no such files
        return True
    return state != "Z"


class Ledger:
    """The folder of finished runs. Raises UserError where it cannot be made or written.

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

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"runs: the ledger {self.root} cannot be written ({error.strerror})")

    def folder(self, key: str) -> Path:
        return self.root / "runs" / key

    def __contains__(self, key: str) -> bool:
        return (self.folder(key) / "run.json").exists()

    def __len__(self) -> int:
        return sum(not entry.name.startswith(".") for entry in (self.root / "runs").glob("*"))

    def read(self, key: str, name: str = "run.json") -> Any:
        """A JSON file of a run. Raises UserError if it was written by a newer version."""
        path = self.folder(key) / name
        value = json.loads(path.read_text())
        if name == "run.json" and value["format"] > RESULT_FORMAT:
            raise UserError(f"{path}: format {value['format']} is newer than this version reads ({RESULT_FORMAT})")
        return value

    def commit(self, key: str, files: Mapping[str, bytes]) -> None:
        """Put a finished run into the ledger, whole. A run that is there already stays as it is.

        Raises UserError where it cannot be written; nothing of it is left then.
        """
        temporary = self.root / "runs" / f".{key}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
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

    def remove(self, key: str) -> None:
        """Take a run out, so that it can be made and logged again: hidden by one rename, then deleted."""
        doomed = self.root / "runs" / f".{key}.{os.getpid()}"
        shutil.rmtree(doomed, ignore_errors=True)
        self.folder(key).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        (self.root / "wandb" / "logged" / key).unlink(missing_ok=True)

    def mark_running(self, key: str, progress: Mapping[str, Any]) -> None:
        """Say how far a run is, for whoever watches. Not flushed: it is worth nothing after a crash."""
        path = self.root / "running" / f"{key}.json"
        temporary = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # no reason to end a run; a full disk shows when it is committed
            temporary.write_text(json.dumps({**progress, "pid": os.getpid()}))
            temporary.replace(path)

    def forget_running(self, key: str) -> None:
        """A run that is committed, or given up, needs neither its mark nor its checkpoints."""
        (self.root / "running" / f"{key}.json").unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints(key), ignore_errors=True)

    def checkpoints(self, key: str) -> Path:
        """The folder of a run's checkpoints, which need not exist; experiments/checkpoints.py writes there."""
        return self.root / "running" / key

    def running(self) -> dict[str, dict[str, Any]]:
        """Runs in progress by key, of processes that live."""
        found = {}
        for path in sorted((self.root / "running").glob("*.json")):
            try:
                progress = json.loads(path.read_text())
            except (OSError, ValueError):
                continue  # it has just ended
            if process_is_alive(progress["pid"]):
                found[path.stem] = progress
        return found

    def sweep_up(self) -> None:
        """Delete what killed processes left: half-written runs and manifests, marks of runs in progress.

        Checkpoints stay while they can be of use: those of runs in progress, and those of runs that a study lists and
        that the ledger lacks.
        """
        for entry in [path for place in ("runs/.*", "studies/*/.*", "running/*") for path in self.root.glob(place)]:
            if "." not in entry.name:
                continue  # checkpoints
            suffix = entry.name.rsplit(".", 1)[-1]
            try:
                pid = int(suffix) if suffix.isdigit() else int(json.loads(entry.read_text())["pid"])
            except (OSError, ValueError, KeyError):
                continue
            if not process_is_alive(pid):
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
        self._sweep_up_checkpoints()

    def _sweep_up_checkpoints(self) -> None:
        try:
            wanted = self.running().keys() | self._listed()
        except (OSError, ValueError, LookupError, TypeError):
            return  # a study cannot be read, and may want any of them
        for folder in (self.root / "running").glob("*/"):
            if folder.name in self or folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def _listed(self) -> set[str]:
        """Keys of the runs that the studies here consist of, made or not."""
        arms = [arm for study in self.studies() for arm in self.read_study(study).get("arms", ())]
        return {key for arm in arms for key in (*arm["trials"], *arm["finals"])}

    def write_study(self, study: str, manifest: Mapping[str, Any]) -> None:
        """Write what a study consists of."""
        folder = self.root / "studies" / study
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "study.json", to_json(manifest))

    def studies(self) -> list[str]:
        """Names of the studies whose manifest is here, the latest first."""
        manifests = sorted(
            (self.root / "studies").glob("*/study.json"), key=lambda path: path.stat().st_mtime, reverse=True
        )
        return [path.parent.name for path in manifests]

    def read_study(self, study: str) -> dict[str, Any]:
        return json.loads((self.root / "studies" / study / "study.json").read_text())
