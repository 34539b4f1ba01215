"""Ctrl-C, SIGTERM and a closed terminal: the program ends within seconds, with one line, whatever it is doing.

The first signal is raised as KeyboardInterrupt, which lets workers and the tracker go in order; more of them change
nothing. A library may lose that exception (in an import, in a destructor), or its C code may not come back to see it.
So a thread, which the system tells of the signal through a pipe, ends the program when its time is up.
"""

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
STATUS_STOPPED = 130
STOPPED = "\nStopped. Finished runs are in the ledger; the same command goes on from here."
LIMIT_S = 6.0
"""More than workers and tracker are given to end."""
SHOW_CURSOR = b"\x1b[?25h"

_asked = threading.Event()
_stderr = 2


def listen() -> None:
    """From now on, signals that ask the program to end have it end. Call first of all, and once."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        # Ignored under nohup, and where a shell has put the command in the background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    threading.Thread(target=_end_in_time, args=(reader,), daemon=True).start()


def leave_if_asked() -> None:
    """End the program here, if a signal has asked for it; the interpreter's own end would wait for threads."""
    if _asked.is_set():
        with suppress(Exception):
            sys.stdout.flush()
        _end()


def finish(status: int) -> None:
    """The command has done its work: signals have nothing to stop any more, and the end with this status is bounded.

    Python's own end waits for whatever a library left, such as a process that the kernel holds; and in it signals have
    Python's answers again, which would make a failure of what is done.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    timer = threading.Timer(LIMIT_S, os._exit, (status,))
    timer.daemon = True
    timer.start()


def _stop(number: int, frame: FrameType | None) -> None:
    global _stderr
    if _asked.is_set():
        return
    _asked.set()
    with suppress(OSError):  # from here on there is one thing to say, and no library's complaint is it
        _stderr = os.dup(2)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        os.close(silence)
    sys.excepthook = lambda *_: leave_if_asked()
    raise KeyboardInterrupt


def _end_in_time(reader: int) -> None:
    os.read(reader, 1)
    time.sleep(LIMIT_S)
    _end()


def _end() -> NoReturn:
    """Nothing here waits for long: the terminal may be held, the pipe's reader may sleep."""
    _kill_children()
    if os.isatty(1):
        _write(1, SHOW_CURSOR)
    _write(_stderr, f"{STOPPED}\n".encode())
    os._exit(STATUS_STOPPED)


def _kill_children() -> None:
    """Workers that are left, also those that have only begun. The tracker, in a group of its own, ends by itself."""
    with suppress(OSError):
        for task in Path("/proc/self/task").glob("*/children"):
            for child in map(int, task.read_text(encoding="utf-8").split()):
                if os.getpgid(child) == os.getpgrp():
                    os.kill(child, signal.SIGKILL)


def _write(descriptor: int, content: bytes) -> None:
    with suppress(OSError, ValueError):
        if select.select([], [descriptor], [], 0.5)[1]:
            os.write(descriptor, content)
