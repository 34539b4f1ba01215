"""Whether one run of the ledger is what was committed: every byte of it, and whether its files agree."""

import hashlib
import io
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
from ledger.checksums import LEFT_OUT, SUMS, WEIGHTS, read_sums
from ledger.committed import newer_format, parse_json
from ledger.config import RESULT_FORMAT
from ledger.errors import UserError
from ledger.forms import FORMS, is_key, misfit

Kind = Literal["damaged", "unreadable", "edited", "missing", "extra", "newer"]
ALWAYS = ("run.json", "history.json", "cost.json")
"""Files that every run has."""
TENSORS = (WEIGHTS, "predictions.safetensors", "maps.safetensors")
KNOWN = {*ALWAYS, *TENSORS, "robustness.json", "transformer.png"}
GONE = "was committed with the run and is gone"
UPDATE = "update stn-bench, and ask again"
NOT_OURS = "is none of the ledger's files; nothing reads it"


class Finding(NamedTuple):
    """Something in a ledger that is not as it was written. path: within the ledger; todo: what to do about it."""

    path: str
    kind: Kind
    what: str
    todo: str


@dataclass
class Checked:
    """What was read of a part of a ledger, and what is to be said of it. where: the part; "" for all of it."""

    where: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_files: int = 0
    num_bytes: int = 0

    def find(self, name: str, kind: Kind, what: str, todo: str) -> None:
        """Say it of a file of this part; of the part itself where the name is ""."""
        self.findings.append(Finding("/".join(filter(None, (self.where, name))), kind, what, todo))

    def find_unreadable(self, name: str, error: OSError) -> None:
        self.find(name, "unreadable", f"cannot be read ({error.strerror})", "see to its permissions and the disk")

    def count_file(self, num_bytes: int) -> None:
        self.num_files += 1
        self.num_bytes += num_bytes


@dataclass
class CheckedRun(Checked):
    """record: what run.json holds, if all is well with the run. is_old: of a version that wrote no checksums.

    is_light: that an archive has left out its weights.
    is_copy: that it is not a run, but a copy of one under another name, or has a name that no run has.
    """

    record: dict[str, Any] | None = None
    is_old: bool = False
    is_light: bool = False
    is_copy: bool = False


def check_run(folder: Path) -> CheckedRun:
    """Read every file of the run. Changes nothing. Raises FileNotFoundError for one that is taken out meanwhile."""
    run = CheckedRun(f"runs/{folder.name}")
    contents = _read_all(run, folder)
    if any(finding.kind == "unreadable" for finding in run.findings):
        return run  # whether the others fit together is not known
    run.is_light = contents.pop(LEFT_OUT, None) is not None and WEIGHTS not in contents
    parsed = {name: _parse(folder / name, content) for name, content in contents.items()}
    record, problem = parsed.get("run.json", (None, ""))
    again = f"delete {folder}; the same `make sweep` makes the run again"
    if record and not problem and record["format"] < RESULT_FORMAT:
        again = f"bring it back from a copy; this version makes no runs of format {record['format']}"
    if stray := _stray(folder, record, contents):
        run.is_copy = True
        run.findings.clear()
        run.find("", *stray)
        return run
    has_sums = SUMS in contents
    try:
        sums = read_sums(contents.pop(SUMS)) if has_sums else {}
    except ValueError:
        run.find(SUMS, "damaged", "is not a list of checksums", again)
        return run
    for name in sorted((sums.keys() or set(ALWAYS)) - contents.keys()):
        if run.is_light and name == WEIGHTS:
            continue
        run.find(name, "missing", GONE, again)
    for name, content in contents.items():
        problem = parsed[name][1]
        if name not in (sums or KNOWN):
            run.find(name, "extra", "was not committed with the run", f"delete {folder / name}")
        elif sums and hashlib.sha256(content).hexdigest() != sums[name]:
            kind: Kind = "damaged" if problem else "edited"
            edited = "" if problem else ", but is still of the right form: somebody edited it"
            run.find(name, kind, f"does not fit {SUMS}{edited}", again)
        elif problem.startswith("format"):
            run.find(name, "newer", problem, UPDATE)
        elif problem:
            run.find(name, "damaged", problem, again)
    values: dict[str, Any] = {WEIGHTS: None} if run.is_light else {}
    values |= {name: parsed[name][0] for name in contents}
    if not has_sums:
        cost = values.get("cost.json")
        run.is_old = not (isinstance(cost, dict) and cost.get("sums") == SUMS)
        if not run.is_old:
            run.find(SUMS, "missing", GONE, again)
        # A network that diverged late may have such numbers, too: only where there is no checksum do they tell damage.
        arrays = values.get(WEIGHTS) or {}
        if bad := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
            run.find(WEIGHTS, "damaged", f"{bad[0]!r} holds numbers that are not finite", again)
    if all(finding.kind == "extra" for finding in run.findings):
        contradictions = list(disagreements(folder.name, values))
        for name, what in contradictions:
            run.find(name, "edited" if name in values else "missing", what, again)
        run.record = None if contradictions else record
    return run


def _stray(folder: Path, record: Any, contents: Mapping[str, bytes]) -> tuple[Kind, str, str] | None:
    """What is to be said of a folder that is not a run's own, and what to do about it."""
    key = record.get("key") if isinstance(record, dict) else None
    if is_key(key) and key != folder.name:
        original = folder.with_name(key)
        if all(contents.get(name) == _content(original / name) for name in ("run.json", SUMS)):
            return "extra", f"is a copy of the run {key}, which is here", f"delete {folder}"
        if not is_key(folder.name) and not original.exists():
            return "edited", f"is the run {key} under another name", f"call the folder {key} again"
    if not is_key(folder.name):
        return "extra", "is not a run: none has such a name", f"delete {folder}"
    return None


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _read_all(run: CheckedRun, folder: Path) -> dict[str, bytes]:
    """What the run's files hold, in the order of their names; what is not a plain file is found and left alone."""
    contents: dict[str, bytes] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):  # of a desktop, or of NFS, which keeps what is still being read
            run.notes.append(f"{run.where}/{entry.name}: {NOT_OURS}")
        elif not entry.is_file(follow_symlinks=False):
            run.find(entry.name, "extra", "is not a plain file", f"delete {entry.path}")
        else:
            try:
                contents[entry.name] = Path(entry.path).read_bytes()
            except FileNotFoundError:  # a sweep that makes the run again has just taken it out
                raise
            except OSError as error:
                run.find_unreadable(entry.name, error)
            else:
                run.count_file(len(contents[entry.name]))
    folder.stat()  # while it is taken out, fewer and fewer of its files are listed
    return contents


def _parse(path: Path, content: bytes) -> tuple[Any, str]:
    """What the file says, and what is wrong with that, in words; "" where nothing is."""
    try:
        match path.suffix:
            case ".json":
                value = parse_json(path, content)
                too_new = is_too_new(value) if path.name == "run.json" else ""
                return value, too_new or (misfit(path.name, value) if path.name in FORMS else "")
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


def is_too_new(value: Any) -> str:
    """What to say of a record of a format that this version does not know; "" of any other."""
    version = newer_format(value)
    return f"format {version} is newer than this version knows ({RESULT_FORMAT})" if version else ""
