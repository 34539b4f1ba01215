"""Whether a ledger is what was written: all of it is read. What a sweep takes away meanwhile is passed over."""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ledger.checksums import digest_fits
from ledger.committed import HOW_TO_MEND_A_STUDY, parse_json, read_json
from ledger.config import protocol_hash
from ledger.errors import UserError
from ledger.files import process_is_alive, to_json
from ledger.forms import is_whole, misfit
from ledger.ledger import Ledger
from ledger.listed import keys_of, winners_of
from ledger.markers import SINGLE_RUNS, TRACKERS, read_marker
from ledger.run_audit import NOT_OURS, UPDATE, Checked, CheckedRun, Finding, Kind, check_run, is_too_new
from ledger.started import program
from ledger.sweep_lock import HOLDER, LOCK, holder_was_killed
from ledger.traces import JOURNAL, Traces
from ledger.winners import Tried, winner_of
from ledger.wording import count

SWEPT = "the next `make sweep` deletes it"
STUDY_FILES = re.compile(rf"study\.json|{re.escape(JOURNAL)}(\.lock.*)?")
SINGLE = SINGLE_RUNS[1]


class Audit(Checked):
    """What was found, in the order of the ledger's folders, and what was read.

    findings: what is damaged, edited, missing, too much, or of a newer version. notes: what is as it may be, such as
    runs that are still to be made, what killed processes left, and runs of older versions. lost: keys of runs that were
    made and are gone. num_homeless: runs of which nothing says what study they are of.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(where="")
        self.root = root
        self.num_runs = self.num_studies = self.num_homeless = 0
        self.lost: set[str] = set()
        self.runs: dict[str, CheckedRun] = {}
        self._traces = Traces(root)
        self._listed: dict[str, set[str]] = {}

    @property
    def wrong_results(self) -> list[Finding]:
        """The findings, but for runs that are gone, as they do not matter to those that are there, and checkpoints."""
        here = [each for each in self.findings if each.path.removeprefix("runs/") not in self.lost]
        return [each for each in here if not each.path.startswith("running/")]

    def look_through(self, on_run: Callable[[int, int], None]) -> None:
        self._check_runs(on_run)
        self._miss_runs()
        folders = {folder.name: folder for folder in self._folders("studies")}
        without = [folder for folder in folders.values() if not self._check_study(folder)]
        without += [self.root / "studies" / name for name in self._traces.studies() - folders.keys()]
        strays = sorted(self.runs.keys() - set().union(*self._listed.values()))
        for folder in sorted(without):
            self._miss_study(folder, strays)
        self._check_running()
        self._check_markers()
        self._check_top()
        self._say_of_strays(strays)

    def _folders(self, place: str) -> list[Path]:
        """The folders in that folder of the ledger; what else lies there is noted."""
        folders = []
        for entry in _entries(self.root / place):
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
                folders.append(entry)
            else:
                self._note_stranger(entry)
        return folders

    def _note(self, entry: Path, text: str) -> None:
        """Say it of a file or folder, if that is still there."""
        if os.path.lexists(entry):
            self.notes.append(f"{entry.relative_to(self.root)}: {text}")

    def _note_stranger(self, entry: Path) -> None:
        """Say whose a file is that holds no result: a living process's, a killed one's, or not the ledger's."""
        suffix, is_mark = entry.name.rpartition(".")[2], entry.parent.name == "running"
        try:
            pid = int(suffix) if suffix.isdigit() else read_json(entry)["pid"] if is_mark else None
        except (OSError, ValueError, LookupError, TypeError):
            pid = None
        if not is_whole(pid):
            self._note(entry, NOT_OURS)
        elif process_is_alive(pid):
            self._note(entry, f"the process {pid} is at work on it")
        else:
            self._note(entry, f"left by a process that was killed; {SWEPT}")

    def _check_runs(self, on_run: Callable[[int, int], None]) -> None:
        folders = self._folders("runs")
        for number, folder in enumerate(folders, 1):
            try:
                run = check_run(folder)
            except FileNotFoundError:  # a sweep that retries it has just taken it out
                continue
            except OSError as error:  # such as of another user's folder; the others are read all the same
                run = CheckedRun(f"runs/{folder.name}")
                run.find_unreadable("", error)
            self.findings += run.findings
            self.notes += run.notes
            self.num_files += run.num_files
            self.num_bytes += run.num_bytes
            if not run.is_copy:
                self.runs[folder.name] = run
            on_run(number, len(folders))
        self.num_runs = len(self.runs)
        if old := [key for key, run in self.runs.items() if run.is_old]:
            without = "without checksums, as older versions made them: only what they say was checked"
            self.notes.append(f"{count(len(old), 'run')} {without}{_such_as(old)}")
        if light := [key for key, run in self.runs.items() if run.is_light]:
            self.notes.append(f"{count(len(light), 'run')} without weights, which an archive left out{_such_as(light)}")

    def _miss_runs(self) -> None:
        """Runs that were made and are gone, but for those that are being made again."""
        gone = {key for key in self._traces.keys() - self.runs.keys() if not (self.root / "runs" / key).exists()}
        gone &= self._traces.keys()  # asked again: RETRY=1 takes the marker out before the run
        self.lost = gone - Ledger(self.root, read_only=True).running().keys()
        for key in sorted(self.lost):
            command = f"{program()} run" if self._traces.groups.get(key) == SINGLE else "make sweep"
            self.find(f"runs/{key}", "missing", "was made and is gone", f"the same `{command}` makes it again")

    def _check_study(self, folder: Path) -> bool:
        """Whether the study has a manifest, in whatever state."""
        path = folder / "study.json"
        for entry in _entries(folder):
            if not STUDY_FILES.fullmatch(entry.name):
                self._note_stranger(entry)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            self.count_file(0)
            self.find_unreadable(f"studies/{folder.name}/study.json", error)
        else:
            self.count_file(len(content))
            self._check_manifest(path, content)
        self.num_studies += 1
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
            self.find(where, "missing", "is gone, and runs of the study are here", again)
        elif folder.name in self._traces.studies():
            self.find(where, "missing", "is gone, and runs were made for the study", todo)
        elif folder.exists():
            self.notes.append(f"{where}: was not written yet, as by a sweep that was ended at its start; {todo}")

    def _check_manifest(self, path: Path, content: bytes) -> None:
        name = path.parent.name

        def find(kind: Kind, what: str, todo: str = HOW_TO_MEND_A_STUDY) -> None:
            self.find(f"studies/{name}/study.json", kind, what, todo)

        try:
            value = parse_json(path, content)
        except UserError:
            return find("damaged", "is not JSON")
        if too_new := is_too_new(value):
            return find("newer", too_new, UPDATE)
        if what := misfit("study.json", value):
            return find("damaged", what)
        keys = self._listed[name] = {key for arm in value["arms"] for key in keys_of(arm)}
        if not digest_fits(value):
            return find("edited", "does not fit its sha256")
        if "sha256" in value and content != to_json(value):
            return find("edited", "says the same in another spelling")
        if "protocol" in value and protocol_hash(value["protocol"]) != value["protocol_hash"]:
            find("edited", "its protocol_hash is not that of its protocol")
        if value["study"] != name:
            find("edited", f"is of the study {value['study']}, but its folder is called {name}")
        for what in _disagreements(value, self.runs):
            find("edited", what)
        if missing := keys - self.runs.keys() - self.lost:
            are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
            number = f"{len(missing):,} of {count(len(keys), 'run')} {are}"
            self.notes.append(f"{name}: {number} still to be made; the same `make sweep` makes {them}")
        return None

    def _check_running(self) -> None:
        for folder in self._folders("running"):
            num_whole = 0
            for path in _entries(folder):
                promised = re.fullmatch(r"epoch-\d+-([0-9a-f]{64})\.safetensors", path.name)
                if not promised or not path.is_file():
                    self._note_stranger(path)
                    continue
                try:
                    with open(path, "rb") as file:
                        self.count_file(os.fstat(file.fileno()).st_size)
                        is_whole_file = hashlib.file_digest(file, "sha256").hexdigest() == promised[1]
                except FileNotFoundError:  # newer ones have just taken its place, or the run has ended
                    continue
                num_whole += is_whole_file
                if not is_whole_file:
                    todo = f"delete {path}; the run goes on from the checkpoint before it"
                    name = str(path.relative_to(self.root))
                    self.find(name, "damaged", "is not the bytes that its name promises", todo)
            if num_whole:
                self._note(folder, "checkpoints of a run that the same `make sweep` goes on with")

    def _check_markers(self) -> None:
        for tracker in TRACKERS:
            for entry in _entries(self.root / tracker / "logged"):
                self._check_marker(tracker, entry)

    def _check_marker(self, tracker: str, entry: Path) -> None:
        key = entry.name
        if key.startswith("."):
            self._note_stranger(entry)
        elif key in self.lost:
            return
        elif key not in self.runs and not (self.root / "runs" / key).exists():
            self._note(entry, "is of a run that the ledger has not; harmless")
        elif not (marker := read_marker(self.root, key, tracker)):
            again = "make sync" if tracker == "wandb" else "make sweep"
            self._note(entry, f"is damaged; the next `{again}` logs the run again")
        elif not marker["uploaded"] and not (self.root / tracker / marker["folder"]).exists():
            todo = (
                "`make sync` uploads from the ledger"
                if tracker == "wandb"
                else f"delete {entry}; `make sweep` logs the run"
            )
            self._note(entry, f"points to a {'folder' if tracker == 'wandb' else 'file'} that is gone; {todo}")

    def _check_top(self) -> None:
        known = {"runs", "studies", "running", *TRACKERS, LOCK, HOLDER}
        for entry in _entries(self.root):
            if entry.name not in known:
                self._note_stranger(entry)
            elif entry.name == HOLDER and holder_was_killed(entry):
                self._note(entry, f"names the host of a sweep that was killed; {SWEPT}")

    def _say_of_strays(self, strays: Collection[str]) -> None:
        """Runs in no study: those made one by one, those that a study lists no more, and those of unknown origin."""
        for group in ("", SINGLE, *sorted(self._listed)):
            keys = [key for key in strays if self._traces.groups.get(key, "") == group]
            if not group:
                self.num_homeless = len(keys)
            if keys:
                origins = {"": "of no study that is here", SINGLE: "made by the command `run`, in no study"}
                dropped = f"made for {group}, which does not list {'it' if len(keys) == 1 else 'them'} now"
                self.notes.append(f"{count(len(keys), 'run')} {origins.get(group, dropped)}{_such_as(keys)}")


def audit(root: Path, on_run: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Look through the ledger. on_run: called with the numbers of runs that were read and that there are.

    Raises UserError for a folder that is not a ledger.
    """
    if not root.is_dir():
        raise UserError(f"runs: there is no ledger at {root}")
    if not (root / "runs").is_dir():
        raise UserError(f"runs: {root} is not a ledger: it has no folder `runs`")
    audited = Audit(root)
    audited.look_through(on_run)
    return audited


def sound(root: Path, called: Path) -> Audit:
    """The audit of a ledger of which all that is there is as it was written. called: what messages call it.

    Raises UserError for any other. Runs that were made and are gone do not matter to those that are there, and
    neither do checkpoints of runs in progress.
    """
    found = audit(root)
    if wrong := found.wrong_results:
        _, kind, _, todo = wrong[0]
        hint = (
            todo if kind == "newer" else f"`{program()} verify {root}` says more" if root == called else "get it again"
        )
        raise UserError(f"{called}/{in_short(wrong)}; {hint}")
    return found


def in_short(findings: Sequence[Finding]) -> str:
    """The first of several findings, and how many others there are."""
    path, kind, what, _ = findings[0]
    more = f" (and {count(len(findings) - 1, 'other finding')})" if findings[1:] else ""
    return f"{path}: {kind}: {what}{more}"


def _disagreements(study: dict[str, Any], runs: dict[str, CheckedRun]) -> Iterator[str]:
    """What a study says of its arms that its runs contradict, or itself."""
    test_pose = study["test_pose"]["name"] if "test_pose" in study else None
    for arm in study["arms"]:
        name = f"the arm {arm['variant']} at {arm['pose']}"
        winners, trials = winners_of(arm), []
        if any(key not in (None, *arm["trials"]) for key in winners):
            yield f"a winner of {name} is none of its trials"
        for stage, hashed, keys in _stages(study, arm):
            if stage != "trial" and (len(set(keys)) != len(keys) or len(keys) not in (0, study["num_finals"])):
                yield f"{name} lists {len(keys)} {stage} runs, {study['num_finals']} were planned"
            task = study["task"]["content_hash"]
            expected = {
                "pose": arm["pose"],
                "variant": arm["variant"],
                "stage": stage,
                "test_pose": test_pose if stage != "trial" else None,
                "protocol": hashed,
                "task": task,
            }
            for key in keys:
                if key not in runs or (record := runs[key].record) is None:
                    continue
                if stage == "trial":
                    trials.append(record)
                hashes = {"protocol": record["protocol_hash"], "task": record["task"]["content_hash"]}
                for what, wanted in expected.items():
                    if (actual := (record["config"] | hashes).get(what)) != wanted:
                        yield f"the run {key} of {name} has another {what}: {actual}, not {wanted}"
        if arm["finals"] and len(trials) == len(arm["trials"]) and winners != (best := _best(study, trials)):
            listed, judged = (", ".join(map(str, keys)) for keys in (winners, best))
            yield f"the winners of {name} are {listed}, but the best of its trials {judged}"


def _stages(study: dict[str, Any], arm: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """For trials and for final runs of each size: the stage, the hash of the protocol, and keys."""
    hashes = [rung["protocol_hash"] for rung in study.get("rungs", ())]
    tuned_at = study.get("tuned_at") or 0
    yield "trial", hashes[tuned_at - 1] if 0 < tuned_at <= len(hashes) else study["protocol_hash"], arm["trials"]
    yield "final", study["protocol_hash"], arm["finals"]
    for hashed, keys in zip(hashes, arm.get("rungs", ()), strict=False):
        yield "rung", hashed, keys


def _best(study: dict[str, Any], trials: list[dict[str, Any]]) -> list[str | None]:
    """Which trial of each tuning won."""
    tunings: dict[Any, list[Tried]] = {}
    for trial in trials:
        config, seed = trial["config"], trial["config"]["seed"]
        setting = repr([sorted(config[part].items()) for part in ("optim", "model", "policy")])
        tried = Tried(trial["key"], setting, seed, trial["status"], trial["result"]["val_accuracy"])
        tunings.setdefault(seed if study.get("tuning") == "per_seed" else None, []).append(tried)
    return [winner_of(tuning) for tuning in tunings.values()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _such_as(keys: list[str]) -> str:
    return f" ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
