"""Signs of life: where a worker's loops over batches pass, a number goes up that the supervisor looks at.

A worker that is stopped, deadlocked, in an endless loop or waiting for a GPU in vain cannot say so; it falls silent.
Whatever may take minutes must come by here: training steps, batches of an evaluation, downloads, decoding of images.
"""

import ctypes

Counter = ctypes.c_uint64
"""Shared with the supervisor: `multiprocessing.sharedctypes.RawValue(Counter)`."""

_beats: Counter | None = None


def beat() -> None:
    """Say that work goes on. Takes less than a microsecond; outside a worker it does nothing."""
    if _beats is not None:
        _beats.value += 1


def beat_into(beats: Counter) -> None:
    """Have this process's beats counted there."""
    global _beats
    _beats = beats
