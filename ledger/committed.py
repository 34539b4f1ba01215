"""Reads the ledger's files as they were committed; those of older versions, which have no checksums, as they are."""

import json
import os
from pathlib import Path
from typing import Any

from ledger.checksums import LEFT_OUT, SUMS, WEIGHTS, digest_fits, fits
from ledger.config import RESULT_FORMAT
from ledger.errors import UserError, remedy
from ledger.forms import is_whole, misfit, shown
from ledger.started import program

HOW_TO_MEND_A_STUDY = (
    "bring it back from a copy, or delete it: the same `make sweep` writes it again from the runs, all but what was "
    "planned at first"
)


def _verify(path: Path) -> str:
    """The command that looks through the ledger of a run's or a study's file."""
    return f"`{program()} verify {path.parents[min(2, len(path.parents) - 1)]}`"


def who_knows(path: Path) -> str:
    """The hint that ends a message about a run's or a study's file."""
    return f"{_verify(path)} says what to do"


def not_as_committed(path: Path, what: str) -> UserError:
    mended = f"delete {path.parent}, and the same `make sweep` makes that run again, unless an older version made it"
    return UserError(f"{path}: {what}; {mended} ({_verify(path)} says more)")


def read_as_it_is(path: Path) -> bytes:
    """Whatever the file holds. Raises UserError if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        hint = remedy(error) or f"; {who_knows(path)}"
        raise UserError(f"{path}: cannot be read ({error.strerror}){hint}") from error


def read_committed(path: Path) -> bytes:
    """A file of a run. Raises UserError if it cannot be read or is not as it was committed."""
    content, sums = read_as_it_is(path), _sums_beside(path)
    if sums is not None and not fits(path.name, content, sums):
        raise not_as_committed(path, f"was damaged or edited: it does not fit {SUMS}")
    return content


def read_run(folder: Path) -> dict[str, bytes]:
    """All files of a run by name, in order. Raises UserError as `read_committed` does."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if folder / WEIGHTS in paths:  # given back by a merge that was killed before it could say so
        paths = [path for path in paths if path.name != LEFT_OUT]
    return {path.name: (read_as_it_is if path.name in (SUMS, LEFT_OUT) else read_committed)(path) for path in paths}


def is_there(path: Path) -> bool:
    """Whether a run has the file. Raises UserError if it was committed with one that is gone."""
    if path.is_file():
        return True
    if f"  {path.name}\n".encode() in (_sums_beside(path) or b""):
        raise not_as_committed(path, "is missing")
    return False


def _sums_beside(path: Path) -> bytes | None:
    """All checksums of the run that the file is of; None for a run of an older version."""
    sums = os.path.join(os.path.dirname(path), SUMS)  # a ledger has many of them, and Path is slow
    return read_as_it_is(Path(sums)) if os.path.exists(sums) else None


def parse_json(path: Path, content: bytes) -> Any:
    """The value of what was read from the file. Raises UserError where it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: is not JSON; {who_knows(path)}") from None


def read_json(path: Path) -> Any:
    """The file's value. Raises UserError where it cannot be read or is not JSON."""
    return parse_json(path, read_as_it_is(path))


def newer_format(value: Any) -> int | None:
    """The format of a run's or a study's record, where that is one that this version does not know."""
    version = value.get("format") if isinstance(value, dict) else None
    return version if is_whole(version) and version > RESULT_FORMAT else None


def check(path: Path, value: Any, *, whole: bool = True) -> None:
    """Raises UserError unless the value is as files of that name are, and of a version that is known.

    whole: nothing that is needed may be absent.
    """
    if version := newer_format(value):
        known = f"is newer than this version reads ({RESULT_FORMAT})"
        raise UserError(f"{path}: format {version} {known}; update stn-bench or give RUNS=")
    if what := misfit(path.name, value, whole=whole):
        raise UserError(f"{path}: {what}; {who_knows(path)}")


def read_record(path: Path) -> Any:
    """What a JSON file of a run holds, as it was committed.

    Raises UserError for one of a newer version, one that was damaged or edited since, and one of another form.
    """
    value = parse_json(path, read_committed(path))
    check(path, value)
    return value


def read_manifest(path: Path, *, whole: bool = True) -> dict[str, Any]:
    """What a study consists of. Raises UserError as `read_record` does. whole: nothing that is needed may be absent."""
    value = read_json(path)
    check(path, value, whole=whole)
    if not digest_fits(value):
        raise UserError(f"{path}: was damaged or edited: it does not fit its sha256; {HOW_TO_MEND_A_STUDY}")
    return {name: part for name, part in value.items() if name != "sha256"}


def get(file: Path, record: dict[str, Any], dotted: str, kind: type | tuple[type, ...]) -> Any:
    """What is at a dotted name. Raises UserError where that is absent or of another kind."""
    value: Any = record
    for name in dotted.split("."):
        if not isinstance(value, dict) or name not in value:
            raise UserError(f"{file}: {dotted!r} is missing")
        value = value[name]
    if not isinstance(value, kind):
        expected = "a number" if isinstance(kind, tuple) else kind.__name__
        raise UserError(f"{file}: {dotted!r} is {shown(value)}, expected {expected}")
    return value
