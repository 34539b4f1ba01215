"""Whether one run of the ledger is what was committed: every byte of it.

ledger/agreement.py looks whether its files also agree with each other.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import safetensors.numpy
from PIL import Image
from safetensors import SafetensorError

from ledger.agreement import disagreements
from ledger.checksums import SUMS, read_sums
from ledger.committed import newer_format, parse_json
from ledger.config import RESULT_FORMAT
from ledger.errors import UserError
from ledger.forms import FORMS, is_key, misfit

Kind = Literal["damaged", "unreadable", "edited", "missing", "extra", "newer"]
ALWAYS = ("run.json", "history.json", "cost.json")
"""Files that every run has."""
TENSORS = ("weights.safetensors", "predictions.safetensors", "maps.safetensors")
KNOWN = {*ALWAYS, *TENSORS, "robustness.json", "transformer.png"}
BLOCK = 2**20
UPDATE = "update stn-bench, and ask again"
LET_ME_READ = "see to its permissions and the disk"


class Finding(NamedTuple):
    """Something in a ledger that is not as it was written. path: within the ledger; todo: what to do about it."""

    path: str
    kind: Kind
    what: str
    todo: str


@dataclass
class CheckedRun:
    """record: what run.json holds, if all is well with the run. is_old: of a version that wrote no checksums.

    is_copy: that it is no run, but a copy of one under another name, or has a name that no run has.
    """

    key: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] | None = None
    is_old: bool = False
    is_copy: bool = False
    num_files: int = 0
    num_bytes: int = 0

    def find(self, name: str, kind: Kind, what: str, todo: str) -> None:
        self.findings.append(Finding(f"runs/{self.key}/{name}".rstrip("/"), kind, what, todo))


def check_run(folder: Path) -> CheckedRun:
    """Read every file of the run. Changes nothing. Raises FileNotFoundError for one that is taken out meanwhile."""
    run = CheckedRun(folder.name)
    contents = _read_all(run, folder)
    again = _again(folder, contents.get("run.json", b""))
    if any(finding.kind == "unreadable" for finding in run.findings):
        return run  # whether the others fit together is not known
    if extra := _stray(folder, contents):
        run.is_copy, run.findings = True, [extra]
        return run
    has_sums = SUMS in contents
    try:
        sums = read_sums(contents.pop(SUMS)) if has_sums else {}
    except ValueError:
        run.find(SUMS, "damaged", "is no list of checksums", again)
        return run
    for name in sorted((sums.keys() or set(ALWAYS)) - contents.keys()):
        run.find(name, "missing", "was committed with the run and is gone", again)
    values: dict[str, Any] = {}
    for name, content in sorted(contents.items()):
        values[name], problem = _value(folder / name, content)
        if name not in (sums or KNOWN):
            run.find(name, "extra", "was not committed with the run", f"delete {folder / name}")
        elif sums and hashlib.sha256(content).hexdigest() != sums[name]:
            is_edited = f"does not fit {SUMS}, but is still of the right form: somebody edited it"
            run.find(name, *(("damaged", f"does not fit {SUMS}") if problem else ("edited", is_edited)), again)
        elif problem.startswith("format"):
            run.find(name, "newer", problem, UPDATE)
        elif problem:
            run.find(name, "damaged", problem, again)
    if not has_sums:
        cost = values.get("cost.json")
        run.is_old = not (isinstance(cost, dict) and cost.get("sums") == SUMS)
        if not run.is_old:
            run.find(SUMS, "missing", "was committed with the run and is gone", again)
        if what := _unfit_arrays(values.get("weights.safetensors") or {}):
            run.find("weights.safetensors", "damaged", what, again)
    if all(finding.kind == "extra" for finding in run.findings):
        contradictions = list(disagreements(folder.name, values))
        for name, what in contradictions:
            run.find(name, "edited" if name in values else "missing", what, again)
        run.record = None if contradictions else values["run.json"]
    return run


def _again(folder: Path, record_json: bytes) -> str:
    """What to do about a run that is not whole."""
    record, problem = _value(folder / "run.json", record_json)
    if record and not problem and record["format"] < RESULT_FORMAT:
        return f"bring it back from a copy; this version makes no runs of format {record['format']}"
    return f"delete {folder}; the same `make sweep` makes the run again"


def _stray(folder: Path, contents: Mapping[str, bytes]) -> Finding | None:
    """What is to be said of a folder that is no run's own."""
    where = f"runs/{folder.name}"
    try:
        key = json.loads(contents["run.json"])["key"]
    except (ValueError, LookupError, TypeError, RecursionError):
        key = None
    if is_key(key) and key != folder.name:
        original = folder.with_name(key)
        if all(contents.get(name) == _content(original / name) for name in ("run.json", SUMS)):
            return Finding(where, "extra", f"is a copy of the run {key}, which is here", f"delete {folder}")
        if not is_key(folder.name) and not original.exists():
            return Finding(where, "edited", f"is the run {key} under another name", f"call the folder {key} again")
    if not is_key(folder.name):
        return Finding(where, "extra", "is no run: none has such a name", f"delete {folder}")
    return None


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _read_all(run: CheckedRun, folder: Path) -> dict[str, bytes]:
    """What the run's files hold, by name; whatever is no plain file is found and left alone."""
    contents: dict[str, bytes] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):  # of a desktop, or of NFS, which keeps what somebody still reads
            run.notes.append(f"runs/{run.key}/{entry.name}: is none of the ledger's files; nothing reads it")
            continue
        if not entry.is_file(follow_symlinks=False):
            run.find(entry.name, "extra", "is no plain file", f"delete {entry.path}")
            continue
        try:
            contents[entry.name] = Path(entry.path).read_bytes()
        except FileNotFoundError:  # a sweep that makes the run again has just taken it out
            raise
        except OSError as error:
            run.find(entry.name, "unreadable", f"cannot be read ({error.strerror})", LET_ME_READ)
            continue
        run.num_files += 1
        run.num_bytes += len(contents[entry.name])
    folder.stat()  # while it is taken out, fewer and fewer of its files are listed
    return contents


def _value(path: Path, content: bytes) -> tuple[Any, str]:
    """What the file says, and what is wrong with that, in words; "" where nothing is."""
    try:
        match path.suffix:
            case ".json":
                value = parse_json(path, content)
                if path.name == "run.json" and (version := newer_format(value)):
                    return None, f"format {version} is newer than this version knows ({RESULT_FORMAT})"
                return value, misfit(path.name, value) if path.name in FORMS else ""
            case ".safetensors":
                return safetensors.numpy.load(content), ""
            case ".png":
                with Image.open(io.BytesIO(content)) as image:
                    image.verify()
    except UserError:
        return None, "is not JSON"
    except (SafetensorError, OSError, ValueError, SyntaxError, KeyError, TypeError) as error:
        return None, f"cannot be opened ({type(error).__name__})"
    return None, ""


def _unfit_arrays(arrays: Mapping[str, Any]) -> str:
    """What tells damage where no checksum does; a network that diverged late may have such numbers, too."""
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    return f"{bad[0]!r} holds numbers that are not finite" if bad else ""
