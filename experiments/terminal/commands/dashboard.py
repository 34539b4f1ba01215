"""`dashboard`: open W&B's terminal dashboard."""

from jsonargparse import Namespace

from experiments.tracking import tracker


def main(options: Namespace) -> int:
    """Open W&B's terminal dashboard."""
    tracker.dashboard(options.runs)
