"""What must not leave this machine with a ledger: whose folders the program and its files lie in."""

import os
import re
from pathlib import Path

_FOLDERS = re.compile(r"(?<![\w.~/])(?:/[^\s/:'\"]+)+/")


def without_folders(text: str) -> str:
    """The text, such as an error's, with the file's name alone where it names a path from the root."""
    folders = {os.getcwd(), os.path.realpath(os.getcwd()), str(Path.home()), os.path.realpath(Path.home())}
    for folder in sorted(folders - {"/"}, key=len, reverse=True):  # they may have spaces in them
        text = text.replace(f"{folder}{os.sep}", ".../").replace(folder, "...")
    return _FOLDERS.sub(".../", text)


def from_here(path: str) -> str:
    """The path as it is from the working directory, or the file's name alone where it lies elsewhere."""
    if not os.path.isabs(path):
        return path
    inside = os.path.relpath(os.path.realpath(path))
    return os.path.basename(path) if inside.startswith("..") else inside
