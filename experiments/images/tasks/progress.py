"""How far slow work is, for the person who waits for it and for the supervisor of the worker that does it."""

import time

from experiments.images.tasks.task import Say
from experiments.machine.heartbeat import beat

EVERY_S = 5.0


class Progress:
    """Takes a line after each piece of work: a sign of life, and said if the last one was some seconds ago."""

    def __init__(self, say: Say) -> None:
        self.say, self.last_said = say, time.monotonic()

    def __call__(self, line: str) -> None:
        beat()
        if time.monotonic() - self.last_said > EVERY_S:
            self.last_said = time.monotonic()
            self.say(line)
