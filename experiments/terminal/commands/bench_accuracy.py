"""`bench-accuracy`: measure the time to an accuracy."""

from jsonargparse import Namespace

from experiments.terminal.commands.bench import check_loaders


def main(options: Namespace) -> int:
    """Measure the time to an accuracy. Raises UserError where the usual way cannot run."""
    check_loaders("bench-accuracy")
    from benchmarks.time_to_accuracy import measure

    return measure(options.path, options.out, target=options.target, num_rounds=options.rounds, quick=options.quick)
