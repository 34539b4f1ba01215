"""`python -m experiments`."""

if __name__ == "__main__":  # worker processes import this module under another name
    from experiments.terminal.program import run_program

    run_program("experiments.terminal.cli")
