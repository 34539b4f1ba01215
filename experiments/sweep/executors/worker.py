"""The beginning of a worker process: from before it imports torch, which takes seconds, it ends with its parent."""

import signal
from multiprocessing.connection import Connection

from experiments.machine.foreign_settings import drop_foreign_settings
from experiments.machine.heartbeat import Counter
from experiments.machine.parent_death import end_with_parent


def begin(pipe: Connection, device: str, beats: Counter, parent: int) -> None:
    """Carry out what comes through the pipe, on the device, until the pipe is closed or the parent process ends."""
    drop_foreign_settings()  # a cluster's node has some of its own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    end_with_parent(parent, signal.SIGKILL)
    from experiments.sweep.executors.working import work

    work(pipe, device, beats)
