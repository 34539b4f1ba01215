"""`python -m experiments`."""

import sys

if __name__ == "__main__":  # worker processes import this module under another name
    from experiments.machine import foreign_settings
    from experiments.terminal import stopping

    foreign_settings.drop_foreign_settings()
    stopping.listen()  # before anything that takes time to import
    try:
        from experiments.machine.cores import limit_threads

        limit_threads()
        from experiments.terminal.cli import main

        status = main()
    finally:
        stopping.leave_if_asked()
    stopping.finish(status)
    sys.exit(status)
