"""`python -m benchmarks`."""

if __name__ == "__main__":  # worker processes import this module under another name
    from experiments.terminal.program import run_program

    run_program("benchmarks.cli")
