"""Checksums of the ledger's files: what was damaged or edited since it was written counts for nothing.

Ledgers of older versions have none, and are read as they are.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ledger.errors import UserError, remedy
from ledger.started import program

SUMS = "SHA256SUMS"


def is_there(file: Path) -> bool:
    """Whether a run has the file. Raises UserError if it was committed with one that is gone."""
    if file.is_file():
        return True
    if f"  {file.name}\n".encode() in _sums(file):
        raise _not_as_committed(file, "is missing")
    return False


def read_as_it_is(path: Path | str) -> bytes:
    """Whatever the file holds. Raises UserError if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}{remedy(error)}") from error


def read_bytes(file: Path) -> bytes:
    """A file of a run, as it was committed. Raises UserError if it cannot be read or is another by now."""
    content = read_as_it_is(file)
    sums = _sums(file)
    if sums and f"{hashlib.sha256(content).hexdigest()}  {file.name}\n".encode() not in sums:
        raise _not_as_committed(file, f"was damaged or edited: it does not fit {SUMS}")
    return content


def _sums(file: Path) -> bytes:
    """All checksums of the run that the file is of; empty for a run of an older version, or none."""
    sums = os.path.join(os.path.dirname(file), SUMS)  # a ledger has many of them, and Path is slow
    return (read_as_it_is(sums) or b"\n") if os.path.exists(sums) else b""


def _not_as_committed(file: Path, what: str) -> UserError:
    return UserError(
        f"{file}: {what}; delete {file.parent}, and the same `make sweep` makes that run again, "
        f"unless an older version made it (`{program()} verify {file.parents[2]}` says more)"
    )


def check_digest(file: Path, record: dict[str, Any]) -> None:
    """Raises UserError if a study's manifest is not as it was written."""
    if "sha256" not in record:
        return
    rest = {name: value for name, value in record.items() if name != "sha256"}
    try:
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    except RecursionError:  # nothing that was written here
        text = ""
    if record["sha256"] != hashlib.sha256(text.encode()).hexdigest():
        raise UserError(
            f"{file}: was damaged or edited: it does not fit its sha256; bring it back from a copy, or delete it: the "
            "same `make sweep` writes it again from the runs, but for what was planned at first"
        )
