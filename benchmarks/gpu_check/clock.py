"""A part of the check in a process of its own, which ends when its time is up: what it had told by then is kept."""

import importlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from experiments.machine.parent_death import end_with_parent
from ledger.errors import UserError

GRACE_S = 3.0
"""After the time that a part is given, until it is ended."""
MAX_LOG = 3000
"""Characters of what a part's process printed that are kept where it failed: its last ones."""


class LeftOut(Exception):
    """There is nothing that the part could be done with; the message says what is missing."""


def _nowhere(message: tuple[Any, ...]) -> None:
    pass


@dataclass
class Asked:
    """What a part is to do, and whom it tells.

    device: cuda or cpu. quick: with tiny sizes, to see that it works. data: folder of images, "" for CIFAR-10.
    task: the images that were found, as load_task takes them; "" for none. matrix: GFLOP/s by precision, as far as they
    were measured. end_s: until when, of time.monotonic(), which all processes of a machine share.
    """

    device: str
    quick: bool = False
    data: str = ""
    task: str = ""
    matrix: dict[str, float] = field(default_factory=dict)
    end_s: float = float("inf")
    send: Callable[[tuple[Any, ...]], None] = _nowhere

    def left_s(self) -> float:
        return self.end_s - time.monotonic()

    def tell(self, name: str, text: str, **values: Any) -> None:
        """A finding, which takes the place of an earlier one of that name. text: for people; "" for none."""
        self.send(("found", name, text, values))

    def leave_out(self, what: str) -> None:
        """Say that there was no time for this."""
        self.send(("left out", what))


def carry_out(function: str, asked: Asked, on_message: Callable[[tuple[Any, ...]], None]) -> tuple[str, str, str]:
    """Call `module:function` with what is asked, in a process of its own; returns status, reason and log.

    on_message: is given what the part tells, as it comes. status: done, cut (by the clock), failed, or left out.
    """
    spawn = multiprocessing.get_context("spawn")
    incoming, outgoing = spawn.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="stn-bench-") as folder:
        log = Path(folder, "log")
        process = spawn.Process(target=_begin, args=(outgoing, os.getpid(), str(log), function, asked))
        try:
            process.start()
            outgoing.close()
            status, reason = _listen(incoming, process, asked, on_message)
        finally:
            _end(process)
            with suppress(EOFError, OSError):
                while incoming.poll():  # told just before it was ended
                    if (message := incoming.recv())[0] != "ended":
                        on_message(message)
            incoming.close()
        printed = log.read_text(encoding="utf-8", errors="replace")[-MAX_LOG:] if log.exists() else ""
    return status, reason, printed if status in ("failed", "cut") else ""


def _listen(
    pipe: Connection, process: BaseProcess, asked: Asked, on_message: Callable[[tuple[Any, ...]], None]
) -> tuple[str, str]:
    is_cut = False
    while pipe.poll(max(0.0, asked.left_s() + GRACE_S)):
        try:
            message = pipe.recv()
        except EOFError:
            process.join(GRACE_S)
            code = process.exitcode
            how = signal.Signals(-code).name if code and code < 0 else f"status {code}"
            return "failed", f"its process ended early ({how})"
        match message:
            case ("ended", "done", _) if is_cut:
                return "cut", "no time for all of it"
            case ("ended", status, reason):
                process.join(GRACE_S)
                return status, reason
        is_cut |= message[0] == "left out"
        on_message(message)
    return "cut", "its time was up"


def _end(process: BaseProcess) -> None:
    """The process and all that it has started, however it ended."""
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):  # it has not begun, or nothing is left
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join(GRACE_S)  # a driver that hangs may hold it for longer


def _begin(pipe: Connection, parent: int, log: str, function: str, asked: Asked) -> None:
    """The part's process: it leads a group of its own and writes nothing to the terminal."""
    os.setsid()
    end_with_parent(parent, signal.SIGKILL)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    asked.send = pipe.send
    module, name = function.split(":")
    try:
        getattr(importlib.import_module(module), name)(asked)
        ended = ("ended", "done", "")
    except LeftOut as reason:
        ended = ("ended", "left out", str(reason))
    except UserError as error:
        ended = ("ended", "failed", str(error))
    except Exception as error:
        import traceback

        traceback.print_exc()
        ended = ("ended", "failed", " ".join(f"{type(error).__name__}: {error}".split())[:500])
    pipe.send(ended)
