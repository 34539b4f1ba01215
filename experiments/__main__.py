"""`python -m experiments`."""

import sys

if __name__ == "__main__":  # worker processes import this module under another name
    from experiments import foreign_settings, stopping

    foreign_settings.drop_foreign_settings()
    stopping.listen()  # before anything that takes time to import
    try:
        from experiments.cores import limit_threads

        limit_threads()
        from experiments.cli import main

        status = main()
    finally:
        stopping.leave_if_asked()
    stopping.finish(status)
    sys.exit(status)
