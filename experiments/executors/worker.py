"""The beginning of a worker process: from before it imports torch, which takes seconds, it ends with its parent."""

import ctypes
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from experiments.heartbeat import Counter

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""


def begin(pipe: Connection, device: str, beats: Counter, parent: int) -> None:
    """Carry out what comes through the pipe, on the device, until the pipe is closed or the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    end_with(parent)
    from experiments.executors.local import work

    work(pipe, device, beats)


def end_with(parent: int) -> None:
    """A supervisor that was killed cannot stop its workers. Linux does, whatever they do; else each looks by itself."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:  # it has ended before that
        os._exit(1)
    threading.Thread(target=_look_for, args=(parent,), daemon=True).start()


def _look_for(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
