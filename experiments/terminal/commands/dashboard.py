"""`dashboard`: open W&B's terminal dashboard."""

from jsonargparse import Namespace

from experiments.tracking import tracker


def main(options: Namespace) -> int:
    tracker.dashboard(options.runs)
