"""`dashboard`: open W&B's terminal dashboard."""

from jsonargparse import Namespace

from experiments import tracking


def main(options: Namespace) -> int:
    """Open W&B's terminal dashboard."""
    tracking.dashboard(options.runs)
