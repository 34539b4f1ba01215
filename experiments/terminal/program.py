"""How a program of ours starts and ends, whatever its command line: signals, foreign settings, threads."""

import importlib
import sys
from typing import NoReturn

from experiments.machine import foreign_settings
from experiments.terminal import stopping


def run_program(module: str) -> NoReturn:
    """Run the `main` of this module and end the process with the status that it returns."""
    foreign_settings.drop_foreign_settings()
    stopping.listen()  # before anything that takes time to import
    try:
        from experiments.machine.cores import limit_threads

        limit_threads()
        status = importlib.import_module(module).main()
    finally:
        stopping.leave_if_asked()
    stopping.finish(status)
    sys.exit(status)
