"""One sweep at a time in a ledger, and which one that is. Imports nothing slow: a second sweep is told at once.

The lock dies with its process, and processes that it starts do not inherit it, since filelock opens its file
close-on-exec. Who holds it is written into a file beside it, which counts only while the lock is held. Where a file
system knows no locks, filelock would make do with a file that outlives a killed process: there, a sweep is refused.
"""

import datetime
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ledger.errors import UserError, remedy
from ledger.files import process_is_alive, to_json, write_atomically

LOCK, HOLDER = "sweep.lock", "sweep.holder"
PATIENCE_S = 1.0
"""For a holder that is just ending, or has not said yet who it is."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def only_sweep_of(root: Path) -> Iterator[None]:
    """Hold the ledger at root, which is made if missing, and is gone again if nothing was put there.

    Raises UserError if another sweep holds it, or if it cannot be written.
    """
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = _acquire(root)
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise UserError(
                f"runs: {root} is on a file system without locks ({error.strerror}), so that two sweeps could write it "
                "at once; give RUNS= on another one"
            ) from None
        raise UserError(f"runs: the ledger {root} cannot be written ({error.strerror}){remedy(error)}") from None
    try:
        with suppress(OSError):  # only the lock matters: no reason to stop where this cannot be written
            since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            (root / HOLDER).unlink(missing_ok=True)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            write_atomically(root / HOLDER, to_json(holder))
        yield
    finally:
        with suppress(OSError):
            (root / HOLDER).unlink(missing_ok=True)
            if made and os.listdir(root) == [LOCK]:
                (root / LOCK).unlink()
                for folder in made:
                    folder.rmdir()
        lock.release()


@contextmanager
def no_sweep_of(root: Path) -> Iterator[None]:
    """Keep sweeps from the ledger at root while it is read. Changes nothing there, and needs no right to.

    Raises UserError if a sweep holds it.
    """
    try:
        descriptor = os.open(root / LOCK, os.O_RDONLY)
    except OSError:  # no sweep has begun there
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _is_held(root, _read(root / HOLDER), "wait for it") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:  # where there are none, no sweep works
                raise
        yield
    finally:
        os.close(descriptor)


def _acquire(root: Path) -> FileLock:
    lock, deadline = FileLock(root / LOCK, fallback_to_soft=False), time.monotonic() + PATIENCE_S
    while True:
        try:
            lock.acquire(timeout=0)
            return lock
        except Timeout:
            holder = _read(root / HOLDER)
            if time.monotonic() > deadline or (holder and _may_live(holder)):
                raise _is_held(root, holder, "wait for it, or give RUNS= another folder") from None
        time.sleep(0.05)


def _is_held(root: Path, holder: dict[str, Any] | None, hint: str) -> UserError:
    return UserError(f"runs: another sweep is at work in {root}{_describe(holder) if holder else ''}; {hint}")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return {"pid": int(holder["pid"]), "host": str(holder["host"]), "since": str(holder["since"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def holder_was_killed(path: Path) -> bool:
    """Whether a process of this host has left the file and ended."""
    holder = _read(path)
    return holder is not None and not _may_live(holder)


def is_held(root: Path) -> bool:
    """Whether a sweep or a probe is at work there, as far as its note says; nothing is locked to find out."""
    holder = _read(root / HOLDER)
    return holder is not None and _may_live(holder)


def _may_live(holder: dict[str, Any]) -> bool:
    return holder["host"] != socket.gethostname() or process_is_alive(holder["pid"])


def _describe(holder: dict[str, Any]) -> str:
    """Such as ` since 10:00 (process 12 on box)`."""
    state, since = "", holder["since"]
    if holder["host"] != socket.gethostname():
        state = ", which is another host"
    elif not process_is_alive(
        holder["pid"]
    ):  # of a container or a host of the same name, or it is another sweep's file
        state = ", which is not alive here"
    with suppress(ValueError, OverflowError):  # it is shown as it is where it is not a time
        then = datetime.datetime.fromisoformat(since).astimezone()
        since = f"{then:%H:%M}" if then.date() == datetime.date.today() else f"{then:%Y-%m-%d %H:%M}"
    return f" since {since} (process {holder['pid']} on {holder['host']}{state})"
