"""The command line: `python -m benchmarks COMMAND`. Errors are reported as those of `python -m experiments`."""

from collections.abc import Sequence
from pathlib import Path

from experiments.machine import cores
from experiments.terminal.arguments import CommandLine
from experiments.terminal.cli import run_or_complain
from ledger.errors import UserError


def command_line() -> CommandLine:
    line = CommandLine("python -m benchmarks", "Measure speed beside a plain PyTorch training loop.")

    command = line.add("speed", "measure speed beside a plain PyTorch training loop and write it as JSON")
    command.add_argument("--out", type=Path, default=Path("bench.json"), help="file for the figures")
    command.add_argument("--quick", action="store_true", help="a moment for each figure, to see that it works")

    command = line.add("accuracy", "measure the time to an accuracy beside a plain PyTorch training loop, as JSON")
    command.add_argument("path", type=Path, help="folder of images: train/ and test/, or one folder for each class")
    command.add_argument("--target", type=float, default=0.8, help="share of the test images to be right about")
    command.add_argument(
        "--rounds", type=int, default=3, help="how often each side trains, each time with another seed"
    )
    command.add_argument("--out", type=Path, default=Path("bench-accuracy.json"), help="file for the figures")
    command.add_argument("--quick", action="store_true", help="a few images and epochs, to see that it works")
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the process's exit status. Bad input is one line on stderr and status 2."""
    return run_or_complain(run_command, command_line, arguments)


def run_command(arguments: Sequence[str]) -> int:
    command, options = command_line().parse(arguments)
    if cores.lacks_shared_memory():
        raise UserError(f"{command}: {cores.SHARED_MEMORY}, which PyTorch's loaders need, cannot be written; mount one")
    if command == "speed":  # imported after parsing: --help and typing errors need no torch
        from benchmarks import speed

        return speed.measure(options.out, quick=options.quick)
    from benchmarks import time_to_accuracy

    return time_to_accuracy.measure(
        options.path, options.out, target=options.target, num_rounds=options.rounds, quick=options.quick
    )
