"""`bench`: measure speed."""

from jsonargparse import Namespace


def main(options: Namespace) -> int:
    """Measure speed."""
    from benchmarks.speed import measure

    return measure(options.out, quick=options.quick)
