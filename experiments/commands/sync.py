"""`sync`: upload to W&B."""

from jsonargparse import Namespace
from rich.console import Console

from experiments import tracking
from experiments.display import say_to


def main(options: Namespace) -> int:
    """Upload to W&B."""
    tracking.sync(options.runs, say_to(Console()))
    return 0
