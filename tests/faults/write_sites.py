"""Every place where this process writes below a folder, so that a test can have it fail or die at any of them.

Patched are the calls that all of Python's file functions end in: opening for writing, writing, flushing to disk,
renaming, making and deleting. What a file is given goes out in two halves, so that half of it can be on disk.
"""

import builtins
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KINDS = {
    "mark": r"running/(sweep|[0-9a-f]+)\.\w+$",
    "checkpoint": r"running/[0-9a-f]+(/|$)",
    "commit": r"runs/runs(/|$)",
    "study.json": r"study\.json",
    "optuna.log": r"optuna\.log",
    "lock": r"sweep\.|\.lock|holder",
    "precision": r"precision",
    "cache": r"/cache(/|$)",
    "figure": r"\.(png|svg|pdf)[^/]*$",
    "report.html": r"report\.html",
    "table": r"reports/",
}
"""What is written where, the first that fits; anything else is a folder or a probe."""


@dataclass(frozen=True)
class Site:
    """One call. call: open, write, amid (half is written), fsync, rename, mkdir or delete. number: from 1."""

    number: int
    call: str
    path: str

    @property
    def kind(self) -> str:
        return next((kind for kind, pattern in KINDS.items() if re.search(pattern, self.path)), "folder")


Strike = Callable[[Site], None]
"""Called before each call is made; what it raises is what the call raises."""


@contextmanager
def watched(root: Path, strike: Strike) -> Iterator[None]:
    """Have `strike` called at each call that writes below the folder, in this process."""
    number, real_open, opening = 0, io.open, os.open
    fsync, replace, rename, mkdir = os.fsync, os.replace, os.rename, os.mkdir
    top = os.path.abspath(root)

    def visit(call: str, path: Any, dir_fd: int | None = None) -> None:
        nonlocal number
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif dir_fd is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        path = os.path.abspath(path)
        if path.startswith(top):
            number += 1
            strike(Site(number, call, path))

    class Raw(io.FileIO):
        def write(self, content: Any) -> int:
            content = bytes(content)
            half = len(content) // 2
            visit("write", self.name)
            super().write(content[:half])
            visit("amid", self.name)
            return half + super().write(content[half:])

    def open_(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax") or options.get("opener"):
            return real_open(file, mode, buffering, *arguments, **options)
        visit("open", file)
        raw = io.BufferedWriter(Raw(os.fspath(file), mode.replace("b", "").replace("t", "")))
        return raw if "b" in mode else io.TextIOWrapper(raw, *arguments, **options)

    def os_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            visit("open", path, dir_fd)
        return opening(path, flags, mode, dir_fd=dir_fd)

    def flush(descriptor: int) -> None:
        visit("fsync", descriptor)
        fsync(descriptor)

    def renaming(real: Any) -> Any:
        def call(source: Any, target: Any, **options: Any) -> None:
            visit("rename", target)
            real(source, target, **options)

        return call

    def make(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        visit("mkdir", path, dir_fd)
        mkdir(path, mode, dir_fd=dir_fd)

    def deleting(real: Any) -> Any:
        def call(path: Any, *, dir_fd: int | None = None) -> None:
            visit("delete", path, dir_fd)
            real(path, dir_fd=dir_fd)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", open_)
        patch.setattr(io, "open", open_)
        patch.setattr(os, "open", os_open)
        patch.setattr(os, "fsync", flush)
        patch.setattr(os, "replace", renaming(replace))
        patch.setattr(os, "rename", renaming(rename))
        patch.setattr(os, "mkdir", make)
        for name in ("unlink", "remove", "rmdir"):
            patch.setattr(os, name, deleting(getattr(os, name)))
        yield


def record(root: Path, work: Callable[[], object]) -> list[Site]:
    """All sites of some work, done undisturbed."""
    sites: list[Site] = []
    with watched(root, sites.append):
        work()
    return sites
