"""`python -m benchmarks.gpu_check`."""

import sys

from benchmarks.gpu_check.check import main

if __name__ == "__main__":  # processes that are spawned import this module under another name
    sys.exit(main())
