"""Whether a ledger is what was written: every file of it is read, and nothing is changed.

A sweep may be at work in it meanwhile: what it has just taken away is passed over.

Findings are what is damaged, edited, missing, too much, or of a newer version. Notes are what is as it may be: runs
that are still to be made, what killed processes left, runs of older versions.
"""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from ledger.checksums import digest_fits
from ledger.committed import HOW_TO_MEND_A_STUDY, newer_format, parse_json, read_json
from ledger.config import RESULT_FORMAT, hash_of
from ledger.errors import UserError
from ledger.files import process_is_alive, to_json
from ledger.forms import is_whole, misfit
from ledger.ledger import Ledger
from ledger.listed import keys_of, winners_of
from ledger.markers import read_marker
from ledger.run_audit import LET_ME_READ, UPDATE, CheckedRun, Finding, Kind, check_run
from ledger.started import program
from ledger.sweep_lock import HOLDER, LOCK, holder_was_killed
from ledger.traces import JOURNAL, Traces
from ledger.winners import Tried, winner_of
from ledger.wording import count

SWEPT = "the next `make sweep` deletes it"
JOURNAL_FILES = re.compile(rf"{re.escape(JOURNAL)}(\.lock.*)?")
NUM_NAMED = 3
"""Names that a note gives for examples."""


class Audit:
    """What was found, in the order of the ledger's folders, and what was read.

    lost: keys of runs that were made and are gone.
    num_homeless: runs of which nothing says what study they are of.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.num_runs = self.num_studies = self.num_files = self.num_bytes = self.num_homeless = 0
        self.lost: set[str] = set()
        self.runs: dict[str, CheckedRun] = {}
        self._traces = Traces(root)
        self._listed: dict[str, set[str]] = {}

    def look_through(self, on_run: Callable[[int, int], None]) -> None:
        self._check_runs(on_run)
        self._miss_runs()
        without = {name: self.root / "studies" / name for name in self._traces.studies()}
        for folder in _entries(self.root / "studies"):
            if not folder.is_dir() or folder.is_symlink():
                self._note_stranger(folder)
            elif self._check_study(folder):
                without.pop(folder.name, None)
            else:
                without[folder.name] = folder
        strays = self.runs.keys() - set().union(*self._listed.values())
        for _, folder in sorted(without.items()):
            self._miss_study(folder, strays)
        self._check_running()
        self._check_markers()
        self._check_top()
        self._say_of_strays(sorted(strays))

    def _note(self, entry: Path, text: str) -> None:
        """Say it of a file or folder, if that is still there."""
        if os.path.lexists(entry):
            self.notes.append(text)

    def _note_stranger(self, entry: Path) -> None:
        self._note(entry, _stranger(self.root, entry))

    def _check_runs(self, on_run: Callable[[int, int], None]) -> None:
        folders: list[Path] = []
        for entry in _entries(self.root / "runs"):
            if entry.name.startswith(".") or entry.is_symlink() or not entry.is_dir():
                self._note_stranger(entry)
            else:
                folders.append(entry)
        for number, folder in enumerate(folders, 1):
            try:
                run = self.runs[folder.name] = check_run(folder)
            except FileNotFoundError:  # a sweep that retries it has just taken it out
                continue
            except OSError as error:  # such as of another user's folder; the others are read all the same
                run = self.runs[folder.name] = CheckedRun(folder.name)
                run.find("", "unreadable", f"cannot be read ({error.strerror})", LET_ME_READ)
            self.findings += run.findings
            self.notes += run.notes
            if run.is_copy:
                del self.runs[folder.name]
            self.num_runs += not run.is_copy
            self.num_files += run.num_files
            self.num_bytes += run.num_bytes
            on_run(number, len(folders))
        if old := [key for key, run in self.runs.items() if run.is_old]:
            num = count(len(old), "run")
            text = f"{num} without checksums, as older versions made them: only what they say was checked"
            self.notes.append(text + _such_as(old))

    def _miss_runs(self) -> None:
        """Runs that were made and are gone; one that is being made again is none of them."""
        gone = {key for key in self._traces.keys() - self.runs.keys() if not (self.root / "runs" / key).exists()}
        gone &= self._traces.keys()  # asked again: RETRY=1 takes the marker out before the run
        self.lost = gone - Ledger(self.root, read_only=True).running().keys()
        for key in sorted(self.lost):
            is_single = self._traces.groups.get(key) == Traces.single_runs
            todo = f"the same `{f'{program()} run' if is_single else 'make sweep'}` makes it again"
            self.findings.append(Finding(f"runs/{key}", "missing", "was made and is gone", todo))

    def _check_study(self, folder: Path) -> bool:
        """Whether the study has a manifest, in whatever state."""
        path = folder / "study.json"
        for entry in _entries(folder):
            if entry.name != "study.json" and not JOURNAL_FILES.fullmatch(entry.name):
                self._note_stranger(entry)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            self.findings.append(Finding(f"studies/{folder.name}/study.json", "unreadable", what, LET_ME_READ))
        else:
            self.num_bytes += len(content)
            self._check_manifest(path, content)
        self.num_studies += 1
        self.num_files += 1
        return True

    def _miss_study(self, folder: Path, strays: Collection[str]) -> None:
        """A study without a manifest. strays: runs in no study. Its journal names runs whose results it has seen."""
        if (folder / "study.json").exists():  # a sweep has just written it
            return
        try:
            journal = (folder / JOURNAL).read_bytes()
        except OSError:
            journal = b""
        where, todo = f"studies/{folder.name}/study.json", "the same `make sweep` writes it"
        if any(self._traces.groups.get(key) == folder.name or f'"{key}"'.encode() in journal for key in strays):
            again = f"bring it back from a copy; {todo}, too, all but what was planned at first"
            self.findings.append(Finding(where, "missing", "is gone, and runs of the study are here", again))
        elif folder.name in self._traces.studies():
            self.findings.append(Finding(where, "missing", "is gone, and runs were made for the study", todo))
        else:
            self._note(folder, f"{where}: was not written yet, as by a sweep that was ended at its start; {todo}")

    def _check_manifest(self, path: Path, content: bytes) -> None:
        folder = path.parent

        def find(kind: Kind, what: str, todo: str = HOW_TO_MEND_A_STUDY) -> None:
            self.findings.append(Finding(f"studies/{folder.name}/study.json", kind, what, todo))

        try:
            value = parse_json(path, content)
        except UserError:
            return find("damaged", "is not JSON")
        if version := newer_format(value):
            return find("newer", f"format {version} is newer than this version knows ({RESULT_FORMAT})", UPDATE)
        if what := misfit("study.json", value):
            return find("damaged", what)
        keys = {key for arm in value["arms"] for key in keys_of(arm)}
        self._listed[folder.name] = keys
        if not digest_fits(value):
            return find("edited", "does not fit its sha256")
        if "sha256" in value and content != to_json(value):
            return find("edited", "says the same in another spelling")
        if "protocol" in value and hash_of(value["protocol"]) != value["protocol_hash"]:
            find("edited", "its protocol_hash is not that of its protocol")
        if value["study"] != folder.name:
            find("edited", f"is of the study {value['study']}, but its folder is called {folder.name}")
        for what in _disagreements(value, self.runs):
            find("edited", what)
        if missing := keys - self.runs.keys() - self.lost:
            num, (verb, them) = count(len(keys), "run"), ("is", "it") if len(missing) == 1 else ("are", "them")
            text = f"{len(missing):,} of {num} {verb} still to be made; the same `make sweep` makes {them}"
            self.notes.append(f"{folder.name}: {text}")
        return None

    def _check_running(self) -> None:
        for entry in _entries(self.root / "running"):
            if not entry.is_dir():
                self._note_stranger(entry)
                continue
            whole = 0
            for path in _entries(entry):
                promised = re.fullmatch(r"epoch-\d+-([0-9a-f]{64})\.safetensors", path.name)
                if not promised or not path.is_file():
                    self._note_stranger(path)
                    continue
                try:
                    with open(path, "rb") as file:
                        num_bytes = os.fstat(file.fileno()).st_size
                        is_whole_file = hashlib.file_digest(file, "sha256").hexdigest() == promised[1]
                except FileNotFoundError:  # newer ones have just taken its place, or the run has ended
                    continue
                self.num_files += 1
                self.num_bytes += num_bytes
                whole += is_whole_file
                if not is_whole_file:
                    where = str(path.relative_to(self.root))
                    todo = f"delete {path}; the run goes on from the checkpoint before it"
                    self.findings.append(Finding(where, "damaged", "is not the bytes that its name promises", todo))
            if whole:
                self._note(entry, f"running/{entry.name}: checkpoints of a run that the same `make sweep` goes on with")

    def _check_markers(self) -> None:
        for entry in _entries(self.root / "wandb" / "logged"):
            where = entry.relative_to(self.root)
            if entry.name.startswith("."):
                self._note_stranger(entry)
            elif entry.name in self.lost:
                continue
            elif entry.name not in self.runs and not (self.root / "runs" / entry.name).exists():
                self._note(entry, f"{where}: is of a run that the ledger has not; harmless")
            elif not (marker := read_marker(self.root, entry.name)):
                self._note(entry, f"{where}: is damaged; the next `make sync` logs the run again")
            elif not marker["uploaded"] and not (self.root / "wandb" / marker["folder"]).is_dir():
                self._note(entry, f"{where}: points to a folder that is gone; `make sync` uploads from the ledger")

    def _check_top(self) -> None:
        known = {"runs", "studies", "running", "wandb", LOCK, HOLDER}
        for entry in _entries(self.root):
            if entry.name not in known:
                self._note_stranger(entry)
            elif entry.name == HOLDER and holder_was_killed(entry):
                self._note(entry, f"{HOLDER}: names the host of a sweep that was killed; {SWEPT}")

    def _say_of_strays(self, strays: list[str]) -> None:
        """Runs in no study: those made one by one, those that a study lists no more, and those of unknown origin."""
        for group in ("", Traces.single_runs, *sorted(self._listed)):
            keys = [key for key in strays if self._traces.groups.get(key, "") == group]
            what = {"": "of no study that is here", Traces.single_runs: "made by the command `run`, in no study"}
            if keys:
                them = "it" if len(keys) == 1 else "them"
                text = what.get(group, f"made for {group}, which does not list {them} now")
                self.notes.append(f"{count(len(keys), 'run')} {text}{_such_as(keys)}")
            if not group:
                self.num_homeless = len(keys)


def audit(root: Path, on_run: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Look through the ledger. on_run: called with the numbers of runs that were read and that there are.

    Raises UserError for a folder that is no ledger.
    """
    if not root.is_dir():
        raise UserError(f"runs: there is no ledger at {root}")
    if not (root / "runs").is_dir():
        raise UserError(f"runs: {root} is no ledger: it has no folder `runs`")
    found = Audit(root)
    found.look_through(on_run)
    return found


def _disagreements(study: dict[str, Any], runs: dict[str, CheckedRun]) -> Iterator[str]:
    """What a study says of its arms that its runs contradict, or itself."""
    for arm in study["arms"]:
        name = f"the arm {arm['variant']} at {arm['pose']}"
        if any(key not in (None, *arm["trials"]) for key in winners_of(arm)):
            yield f"a winner of {name} is none of its trials"
        records = {}
        for stage, hashed, keys in _stages(study, arm):
            if stage != "trial" and (len(set(keys)) != len(keys) or len(keys) not in (0, study["num_finals"])):
                yield f"{name} lists {len(keys)} {stage} runs, {study['num_finals']} were planned"
            for key in keys:
                record = runs[key].record if key in runs else None
                if record is None:
                    continue
                records[key] = record
                said = (arm["pose"], arm["variant"], stage, hashed, study["task"]["content_hash"])
                try:
                    is_so = _about(record)
                except (LookupError, TypeError):
                    continue  # found with the run
                for what, one, other in zip(("pose", "variant", "stage", "protocol", "task"), said, is_so, strict=True):
                    if one != other:
                        yield f"the run {key} of {name} has another {what}: {other}, not {one}"
        if arm["finals"] and all(key in records for key in arm["trials"]):
            best = _best(study, [records[key] for key in arm["trials"]])
            if (said_best := winners_of(arm)) != best:
                yield f"the winners of {name} are {_listed(said_best)}, but the best of its trials {_listed(best)}"


def _stages(study: dict[str, Any], arm: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """For trials and for final runs of each size: the stage, the hash of the protocol, and keys."""
    hashes = [rung["protocol_hash"] for rung in study.get("rungs", ())]
    tuned_at = study.get("tuned_at") or 0
    yield "trial", hashes[tuned_at - 1] if 0 < tuned_at <= len(hashes) else study["protocol_hash"], arm["trials"]
    yield "final", study["protocol_hash"], arm["finals"]
    for hashed, keys in zip(hashes, arm.get("rungs", ()), strict=False):
        yield "rung", hashed, keys


def _listed(keys: list[str | None]) -> str:
    return ", ".join(map(str, keys))


def _about(record: dict[str, Any]) -> tuple[Any, ...]:
    config = record["config"]
    return (config["pose"], config["variant"], config["stage"], record["protocol_hash"], record["task"]["content_hash"])


def _best(study: dict[str, Any], trials: list[dict[str, Any]]) -> list[str | None]:
    """Which trial of each tuning won."""
    tried: dict[Any, list[Tried]] = {}
    for trial in trials:
        config, seed = trial["config"], trial["config"]["seed"]
        setting = repr([sorted(config[part].items()) for part in ("optim", "model", "policy")])
        found = Tried(trial["key"], setting, seed, trial["status"], trial["result"]["val_accuracy"])
        tried.setdefault(seed if study.get("tuning") == "per_seed" else None, []).append(found)
    return [winner_of(each) for each in tried.values()]


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


def _such_as(keys: list[str]) -> str:
    return f" ({', '.join(keys[:NUM_NAMED])}{', ...' if len(keys) > NUM_NAMED else ''})"
