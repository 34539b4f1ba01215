"""The program: `stn-bench` where it is installed, `python -m experiments` in any case."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Carry out the command line, and leave. What must come before every library is imported comes first."""
    from experiments.machine import foreign_settings
    from experiments.terminal import stopping

    foreign_settings.drop_foreign_settings()
    stopping.listen()  # before anything that takes time to import
    try:
        from experiments.machine.cores import limit_threads

        limit_threads()
        from experiments.terminal import cli

        status = cli.main()
    finally:
        stopping.leave_if_asked()
    stopping.finish(status)
    sys.exit(status)


if __name__ == "__main__":  # worker processes import this module under another name
    main()
