"""By which source a run was made: hashes of the files that its result depends on, as cost.json has them."""

from collections.abc import Mapping

Code = dict[str, str]
"""Hashes by the files' paths within the project."""


def packed(code: Code) -> dict[str, str]:
    """By folder, its files and their hashes in one text."""
    folders: dict[str, list[str]] = {}
    for file, hashed in sorted(code.items()):
        folder, _, name = file.rpartition("/")
        folders.setdefault(folder, []).append(f"{name}:{hashed}")
    return {folder: " ".join(files) for folder, files in folders.items()}


def unpacked(folders: Mapping[str, str]) -> Code:
    pairs = ((folder, *each.partition(":")[::2]) for folder, files in folders.items() for each in files.split())
    return {f"{folder}/{name}": hashed for folder, name, hashed in pairs}


def changed(was: Code, now: Code) -> list[str]:
    """Files that are others now, gone or new."""
    return sorted({file for file, _ in was.items() ^ now.items()})


def files_text(files: list[str], most: int = 5) -> str:
    """The first of them."""
    more = len(files) - most
    return ", ".join(files[:most]) + (f" and {more:,} more" if more > 0 else "")
