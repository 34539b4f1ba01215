"""A process that was killed cannot stop those it has started: they end by themselves, or by the kernel's hand."""

import ctypes
import os
import signal
import threading
import time
from contextlib import suppress

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""
LOOK_S = 1.0


def end_with_parent(parent: int, how: signal.Signals) -> None:
    """Have this process ended by a signal when its parent ends, however that ends.

    parent: its process id; one that has ended already ends this one at once. To Linux, which ends this one whatever it
    is doing, the end of the thread that started it is its parent's. Elsewhere a thread looks.
    """
    with suppress(AttributeError, OSError, TypeError):
        if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(how)) == 0:
            if os.getppid() != parent:  # it has ended before that
                os.kill(os.getpid(), how)
            return
    threading.Thread(target=_end_after, args=(parent, how), daemon=True).start()


def _end_after(parent: int, how: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), how)
