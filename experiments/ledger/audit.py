"""Whether a ledger is what was written: every file of it is read, and nothing is changed.

A sweep may be at work in it meanwhile: what it has just taken away is passed over.

Findings are what is damaged, edited, missing, too much, or of a newer version. Notes are what is as it may be: runs
that are still to be made, what killed processes left, runs of older versions.
"""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config import RESULT_FORMAT
from experiments.errors import UserError
from experiments.ledger import HOW_TO_MEND_A_STUDY, process_is_alive, to_json
from experiments.ledger.checksums import digest_fits
from experiments.ledger.run_audit import UPDATE, CheckedRun, Finding, Kind, check_run
from experiments.ledger.shapes import is_whole, misfit, parse_json, read_json
from experiments.ledger.sweep_lock import HOLDER, LOCK, holder_was_killed
from experiments.tracking.markers import read_marker

SWEPT = "the next `make sweep` deletes it"
JOURNAL = "optuna.log"
JOURNAL_FILES = re.compile(rf"{re.escape(JOURNAL)}(\.lock.*)?")
NUM_NAMED = 3
"""Names that a note gives for examples."""


@dataclass
class Audit:
    """What was found, in the order of the ledger's folders, and what was read."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_runs: int = 0
    num_studies: int = 0
    num_files: int = 0
    num_bytes: int = 0

    def note(self, entry: Path, text: str) -> None:
        """Say it of a file or folder, if that is still there."""
        if os.path.lexists(entry):
            self.notes.append(text)


def audit(root: Path, on_run: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Look through the ledger. on_run: called with the numbers of runs that were read and that there are.

    Raises UserError for a folder that is no ledger.
    """
    if not root.is_dir():
        raise UserError(f"runs: there is no ledger at {root}")
    if not (root / "runs").is_dir():
        raise UserError(f"runs: {root} is no ledger: it has no folder `runs`")
    found = Audit()
    runs = _check_runs(root, found, on_run)
    listed: set[str] = set()
    without: list[Path] = []
    for folder in _entries(root / "studies"):
        if not folder.is_dir() or folder.is_symlink():
            found.note(folder, _stranger(root, folder))
        elif not _check_study(folder, runs, listed, found):
            without.append(folder)
    for folder in without:
        _miss_study(folder, runs.keys() - listed, found)
    _check_running(root, found)
    _check_markers(root, runs, found)
    _check_top(root, found)
    if strays := sorted(runs.keys() - listed):
        found.notes.append(f"{_count(strays, 'run')} in no study that can be read{_such_as(strays)}")
    return found


def _check_runs(root: Path, found: Audit, on_run: Callable[[int, int], None]) -> dict[str, CheckedRun]:
    folders: list[Path] = []
    for entry in _entries(root / "runs"):
        if entry.name.startswith(".") or entry.is_symlink() or not entry.is_dir():
            found.note(entry, _stranger(root, entry))
        else:
            folders.append(entry)
    runs: dict[str, CheckedRun] = {}
    for number, folder in enumerate(folders, 1):
        try:
            run = runs[folder.name] = check_run(folder)
        except FileNotFoundError:  # a sweep that retries it has just taken it out
            continue
        found.num_runs += 1
        found.num_files += run.num_files
        found.num_bytes += run.num_bytes
        on_run(number, len(folders))
    if old := [key for key, run in runs.items() if run.is_old]:
        text = f"{_count(old, 'run')} without checksums, as older versions made them: only what they say was checked"
        found.notes.append(text + _such_as(old))
    found.findings += [finding for run in runs.values() for finding in run.findings]
    found.notes += [note for run in runs.values() for note in run.notes]
    return runs


def _check_study(folder: Path, runs: dict[str, CheckedRun], listed: set[str], found: Audit) -> bool:
    """Whether it has a manifest, in whatever state."""
    root, path = folder.parents[1], folder / "study.json"
    for entry in _entries(folder):
        if entry.name != "study.json" and not JOURNAL_FILES.fullmatch(entry.name):
            found.note(entry, _stranger(root, entry))
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        what, todo = f"cannot be read ({error.strerror})", "see to its permissions and the disk"
        found.findings.append(Finding(f"studies/{folder.name}/study.json", "damaged", what, todo))
    else:
        found.num_bytes += len(content)
        _check_manifest(path, content, runs, listed, found)
    found.num_studies += 1
    found.num_files += 1
    return True


def _miss_study(folder: Path, strays: Collection[str], found: Audit) -> None:
    """Of a study without a manifest. strays: runs in no study. Its journal names runs whose results it has seen."""
    try:
        journal = (folder / JOURNAL).read_bytes()
    except OSError:
        journal = b""
    where, todo = f"studies/{folder.name}/study.json", "the same `make sweep` writes it"
    if any(f'"{key}"'.encode() in journal for key in strays):
        found.findings.append(Finding(where, "missing", "is gone, and runs of the study are here", todo))
    else:
        found.note(folder, f"{where}: was not written yet, as by a sweep that was ended at its start; {todo}")


def _check_manifest(path: Path, content: bytes, runs: dict[str, CheckedRun], listed: set[str], found: Audit) -> None:
    folder = path.parent

    def find(kind: Kind, what: str, todo: str = HOW_TO_MEND_A_STUDY) -> None:
        found.findings.append(Finding(f"studies/{folder.name}/study.json", kind, what, todo))

    try:
        value = parse_json(path, content)
    except UserError:
        return find("damaged", "is not JSON")
    version = value.get("format") if isinstance(value, dict) else None
    if is_whole(version) and version > RESULT_FORMAT:
        return find("newer", f"format {version} is newer than this version knows ({RESULT_FORMAT})", UPDATE)
    if what := misfit("study.json", value):
        return find("damaged", what)
    keys = {key for arm in value["arms"] for key in (*arm["trials"], *arm["finals"])}
    listed |= keys
    if not digest_fits(value):
        return find("edited", "does not fit its sha256")
    if "sha256" in value and content != to_json(value):
        return find("edited", "says the same in another spelling")
    if value["study"] != folder.name:
        find("edited", f"is of the study {value['study']}, but its folder is called {folder.name}")
    for what in _disagreements(value, runs):
        find("edited", what)
    if missing := keys - runs.keys():
        num = f"{len(missing):,} of {len(keys):,} runs"
        found.notes.append(f"{folder.name}: {num} are still to be made; the same `make sweep` makes them")
    return None


def _disagreements(study: dict[str, Any], runs: dict[str, CheckedRun]) -> Iterator[str]:
    """What a study says of its arms that its runs contradict, or itself."""
    for arm in study["arms"]:
        name = f"the arm {arm['variant']} at {arm['pose']}"
        if arm["winner"] is not None and arm["winner"] not in arm["trials"]:
            yield f"the winner {arm['winner']} of {name} is none of its trials"
        if len(set(arm["finals"])) != len(arm["finals"]) or len(arm["finals"]) not in (0, study["num_finals"]):
            yield f"{name} lists {len(arm['finals'])} final runs, {study['num_finals']} were planned"
        records = {}
        for stage, keys in (("trial", arm["trials"]), ("final", arm["finals"])):
            for key in keys:
                record = runs[key].record if key in runs else None
                if record is None:
                    continue
                records[key] = record
                said = (arm["pose"], arm["variant"], stage, study["protocol_hash"], study["task"]["content_hash"])
                try:
                    is_so = _about(record)
                except (LookupError, TypeError):
                    continue  # found with the run
                for what, one, other in zip(("pose", "variant", "stage", "protocol", "task"), said, is_so, strict=True):
                    if one != other:
                        yield f"the run {key} of {name} has another {what}: {other}, not {one}"
        if arm["finals"] and all(key in records for key in arm["trials"]):
            best = _best([records[key] for key in arm["trials"]])
            if arm["winner"] != best:
                yield f"the winner of {name} is {arm['winner']}, but the best of its trials is {best}"


def _about(record: dict[str, Any]) -> tuple[Any, ...]:
    config = record["config"]
    return (config["pose"], config["variant"], config["stage"], record["protocol_hash"], record["task"]["content_hash"])


def _best(trials: list[dict[str, Any]]) -> str | None:
    """The completed trial with the highest validation accuracy, the earlier of equals."""
    scores = {trial["key"]: trial["result"]["val_accuracy"] for trial in trials if trial["status"] == "completed"}
    scores = {key: score for key, score in scores.items() if score is not None}
    return max(scores, key=scores.__getitem__, default=None)


def _check_running(root: Path, found: Audit) -> None:
    for entry in _entries(root / "running"):
        if not entry.is_dir():
            found.note(entry, _stranger(root, entry))
            continue
        whole = 0
        for path in _entries(entry):
            promised = re.fullmatch(r"epoch-\d+-([0-9a-f]{64})\.safetensors", path.name)
            if not promised or not path.is_file():
                found.note(path, _stranger(root, path))
                continue
            try:
                with open(path, "rb") as file:
                    num_bytes = os.fstat(file.fileno()).st_size
                    is_whole_file = hashlib.file_digest(file, "sha256").hexdigest() == promised[1]
            except FileNotFoundError:  # newer ones have just taken its place, or the run has ended
                continue
            found.num_files += 1
            found.num_bytes += num_bytes
            whole += is_whole_file
            if not is_whole_file:
                where = str(path.relative_to(root))
                todo = f"delete {path}; the run goes on from the checkpoint before it"
                found.findings.append(Finding(where, "damaged", "is not the bytes that its name promises", todo))
        if whole:
            found.note(entry, f"running/{entry.name}: checkpoints of a run that the same `make sweep` goes on with")


def _check_markers(root: Path, runs: dict[str, CheckedRun], found: Audit) -> None:
    for entry in _entries(root / "wandb" / "logged"):
        where = entry.relative_to(root)
        if entry.name.startswith("."):
            found.note(entry, _stranger(root, entry))
        elif entry.name not in runs and not (root / "runs" / entry.name).exists():
            found.note(entry, f"{where}: is of a run that the ledger has not; harmless")
        elif not (marker := read_marker(root, entry.name)):
            found.note(entry, f"{where}: is damaged; the next `make sync` logs the run again")
        elif not marker["uploaded"] and not (root / "wandb" / marker["folder"]).is_dir():
            found.note(entry, f"{where}: points to a folder that is gone; `make sync` uploads from the ledger")


def _check_top(root: Path, found: Audit) -> None:
    known = {"runs", "studies", "running", "wandb", LOCK, HOLDER}
    for entry in _entries(root):
        if entry.name not in known:
            found.note(entry, _stranger(root, entry))
        elif entry.name == HOLDER and holder_was_killed(entry):
            found.note(entry, f"{HOLDER}: names the host of a sweep that was killed; {SWEPT}")


def _stranger(root: Path, entry: Path) -> str:
    """What is to be said of a file that holds no result: of a process that lives or was killed, or anybody's."""
    where = entry.relative_to(root)
    suffix = entry.name.rpartition(".")[2]
    try:
        pid = int(suffix) if suffix.isdigit() else read_json(entry)["pid"] if where.parts[0] == "running" else None
    except (OSError, ValueError, LookupError, TypeError):
        pid = None
    if not is_whole(pid):
        return f"{where}: is none of the ledger's files; nothing reads it"
    if process_is_alive(pid):
        return f"{where}: the process {pid} is at work on it"
    return f"{where}: left by a process that was killed; {SWEPT}"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _count(keys: list[str], what: str) -> str:
    return f"{len(keys):,} {what}{'s' if len(keys) != 1 else ''}"


def _such_as(keys: list[str]) -> str:
    return f" ({', '.join(keys[:NUM_NAMED])}{', ...' if len(keys) > NUM_NAMED else ''})"
