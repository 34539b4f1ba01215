"""Whether a ledger is what was written: every file of it is read, and nothing is changed.

Findings are what is damaged, edited, missing, too much, or of a newer version. Notes are what is as it may be: runs
that are still to be made, what killed processes left, runs of older versions.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config import RESULT_FORMAT
from experiments.errors import UserError
from experiments.ledger import HOW_TO_MEND_A_STUDY, process_is_alive, to_json
from experiments.ledger.checksums import digest_fits
from experiments.ledger.run_audit import UPDATE, CheckedRun, Finding, Kind, check_run
from experiments.ledger.shapes import is_whole, misfit, read_json
from experiments.ledger.sweep_lock import HOLDER, LOCK
from experiments.tracking.markers import read_marker

SWEPT = "the next `make sweep` deletes it"
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
    for folder in _entries(root / "studies"):
        if folder.is_dir() and not folder.is_symlink():
            _check_study(folder, runs, listed, found)
        else:
            found.notes.append(_stranger(root, folder))
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
            found.notes.append(_stranger(root, entry))
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
    since = min((run.started for run in runs.values() if run.has_sums and run.started), default="~")
    old = [key for key, run in runs.items() if not run.has_sums]
    for key in [key for key in old if runs[key].started >= since]:
        what = "is gone: runs that were made before this one have theirs"
        todo = f"delete {root / 'runs' / key}; the same `make sweep` makes the run again"
        runs[key].find("SHA256SUMS", "missing", what, todo)
        old.remove(key)
    if old:
        text = f"{_count(old, 'run')} without checksums, as older versions made them: only what they say was checked"
        found.notes.append(text + _such_as(old))
    found.findings += [finding for run in runs.values() for finding in run.findings]
    return runs


def _check_study(folder: Path, runs: dict[str, CheckedRun], listed: set[str], found: Audit) -> None:
    root, path = folder.parents[1], folder / "study.json"
    for entry in _entries(folder):
        if entry.name not in ("study.json", "optuna.log"):
            found.notes.append(_stranger(root, entry))

    def find(kind: Kind, what: str, todo: str = HOW_TO_MEND_A_STUDY) -> None:
        found.findings.append(Finding(f"studies/{folder.name}/study.json", kind, what, todo))

    if not path.exists():
        return find("missing", "is gone, or was never written", "the same `make sweep` writes it")
    found.num_studies += 1
    found.num_files += 1
    try:
        content = path.read_bytes()
        value = read_json(path)
    except UserError:
        return find("damaged", "is not JSON")
    except OSError as error:
        return find("damaged", f"cannot be read ({error.strerror})", "see to its permissions and the disk")
    found.num_bytes += len(content)
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
            found.notes.append(_stranger(root, entry))
            continue
        whole = 0
        for path in _entries(entry):
            promised = re.fullmatch(r"epoch-\d+-([0-9a-f]{64})\.safetensors", path.name)
            if not promised or not path.is_file():
                found.notes.append(_stranger(root, path))
                continue
            found.num_files += 1
            found.num_bytes += path.stat().st_size
            with open(path, "rb") as file:
                is_whole_file = hashlib.file_digest(file, "sha256").hexdigest() == promised[1]
            whole += is_whole_file
            if not is_whole_file:
                where = str(path.relative_to(root))
                todo = f"delete {path}; the run goes on from the checkpoint before it"
                found.findings.append(Finding(where, "damaged", "is not the bytes that its name promises", todo))
        if whole:
            found.notes.append(f"running/{entry.name}: checkpoints of a run that the same `make sweep` goes on with")


def _check_markers(root: Path, runs: dict[str, CheckedRun], found: Audit) -> None:
    for entry in _entries(root / "wandb" / "logged"):
        where = entry.relative_to(root)
        if entry.name.startswith("."):
            found.notes.append(_stranger(root, entry))
        elif entry.name not in runs:
            found.notes.append(f"{where}: is of a run that the ledger has not; harmless")
        elif not (marker := read_marker(root, entry.name)):
            found.notes.append(f"{where}: is damaged; the next `make sync` logs the run again")
        elif not marker["uploaded"] and not (root / "wandb" / marker["folder"]).is_dir():
            found.notes.append(f"{where}: points to a folder that is gone; `make sync` uploads from the ledger")


def _check_top(root: Path, found: Audit) -> None:
    known = {"runs", "studies", "running", "wandb", LOCK, HOLDER}
    found.notes += [_stranger(root, entry) for entry in _entries(root) if entry.name not in known]


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
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _count(keys: list[str], what: str) -> str:
    return f"{len(keys):,} {what}{'s' if len(keys) != 1 else ''}"


def _such_as(keys: list[str]) -> str:
    return f" ({', '.join(keys[:NUM_NAMED])}{', ...' if len(keys) > NUM_NAMED else ''})"
