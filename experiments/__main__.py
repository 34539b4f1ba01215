"""The program: `stn-bench` where it is installed, `python -m experiments` in any case."""

from typing import NoReturn


def main() -> NoReturn:
    """Carry out the command line, and leave."""
    from experiments.terminal.program import run_program

    run_program("experiments.terminal.cli")


if __name__ == "__main__":  # worker processes import this module under another name
    main()
