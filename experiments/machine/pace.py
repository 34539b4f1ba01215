"""Slow work that is done again and again, but so seldom that it takes a share of the time at most."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


class Pace:
    """When the work is due again: at first at once, later after a pause in proportion to what it took the last time.

    share: of the time that the work may take. So small work is hardly ever put off, and large work for as long as it
    takes itself, over the share.
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
