"""What must not leave this machine with a ledger: whose folders the program and its files lie in."""

import os
import re
from contextlib import suppress
from pathlib import Path


def without_folders(text: str) -> str:
    """The text, such as an error's, with the file's name alone where it names a path from the root."""
    folders: set[str] = set()
    for where in (os.getcwd, Path.home):
        with suppress(OSError, RuntimeError):  # the folder was deleted; the user's home is not known
            folders |= {str(where()), os.path.realpath(where())}
    for folder in sorted(folders - {"/"}, key=len, reverse=True):  # they may have spaces in them
        text = re.sub(re.escape(folder) + r"(?![\w-]|\.\w)", "...", text)
    return re.sub(r"(?<![\w.~/])(?:/[^\s/:'\"]+)+/", ".../", text)


def from_here(path: str) -> str:
    """The path as it is from the working directory, or the file's name alone where it lies elsewhere."""
    if not os.path.isabs(path):
        return path
    inside = os.path.relpath(os.path.realpath(path))
    return os.path.basename(path) if inside.startswith("..") else inside
