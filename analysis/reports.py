"""Files of a report, each written whole or not at all."""

from collections.abc import Collection, Iterable
from pathlib import Path

from ledger.errors import UserError, remedy
from ledger.files import process_is_alive, write_atomically

CONTACT_SHEET = "contact-sheet.png"
"""Beside a report, where there is one: some images of each class. No figure of results, and not made by analysis."""


def write_files(out: Path, content: dict[str, bytes], *, optional: Iterable[str] = ()) -> list[Path]:
    """Write each name's bytes into `out`: beside its place, flushed to disk, then renamed.

    optional: names that are deleted where `content` lacks them, so that nothing of an earlier report lies beside this.
    Returns the paths in the order given. Raises UserError if `out` cannot be written; no half-written file stays.
    """
    path, optional = out, set(optional)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _remove_drafts(out, {*content, *optional})
        for name, data in content.items():
            path = out / name
            write_atomically(path, data)
        for name in sorted(optional - set(content)):
            path = out / name
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}{remedy(error)}") from error
    return [out / name for name in content]


def _remove_drafts(out: Path, names: Collection[str]) -> None:
    """Drafts of these files, by processes that were killed while they wrote."""
    for draft in out.glob(".*.*"):
        if draft.stem[1:] not in names:  # of another program
            continue
        pid = draft.suffix[1:]
        if pid.isdecimal() and pid.isascii() and draft.is_file() and not process_is_alive(int(pid)):
            draft.unlink(missing_ok=True)
