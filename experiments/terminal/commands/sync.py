"""`sync`: upload to W&B."""

from jsonargparse import Namespace
from rich.console import Console

from experiments.terminal.display import say_to
from experiments.tracking import tracker


def main(options: Namespace) -> int:
    tracker.sync(options.runs, say_to(Console()))
    return 0
