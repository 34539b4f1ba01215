"""Slow work that is done again and again, but so seldom that it takes a share of the time at most."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


class Pace:
    """When the work is due: at once the first time, then after a pause in proportion to its last duration.

    share: largest share of the time for the work; its pause is its last duration over that.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._due_s = 0.0

    def pause_s(self) -> float:
        """Seconds until the work is due; 0 where it is."""
        return max(0.0, self._due_s - monotonic())

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Do the work in here, however it ends."""
        start_s = monotonic()
        try:
            yield
        finally:
            end_s = monotonic()
            self._due_s = end_s + (end_s - start_s) / self.share
