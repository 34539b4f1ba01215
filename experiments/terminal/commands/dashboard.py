"""`dashboard`: open the dashboard of the tracker that was last written to."""

from jsonargparse import Namespace

from experiments.tracking.dashboard import dashboard


def main(options: Namespace) -> int:
    dashboard(options.runs)
