"""Paths as people write them, with `~`. Shells expand it in few places: not in --runs=~/x."""

import os
from pathlib import Path

from ledger.errors import UserError


def user_path(path: str | Path, name: str) -> Path:
    """The path with the home folder for a `~` or `~user` at its beginning. name: of the option or variable that has it.

    Raises UserError where that home is not known: a folder called `~` would be made otherwise.
    """
    expanded = Path(os.path.expanduser(path))
    user = expanded.parts[0] if expanded.parts else ""
    if user.startswith("~") and not os.path.lexists(expanded):
        raise UserError(f"{name}: {str(path)!r}: no home folder is known for {user}; write the path from / on")
    return expanded
