"""Settings in the environment that were made for other programs, and would change what this one computes or says.

docs/reliability.md lists what is honoured and what is not. No library is imported here: this comes before all of them.
"""

import os
import sys
import warnings

DROPPED = frozenset(
    {
        # fp32 is neither TF32 nor bf16: the protocol says how precisely is computed.
        *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
        *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
        # Each process would be bound to the first core, and all workers would share it.
        *("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"),
        # Options come from the command line and from files; what debugs the parser ends it with a traceback.
        *("JSONARGPARSE_DEFAULT_ENV", "JSONARGPARSE_DEBUG"),
        # Logs of a compiler that nothing here is compiled with; a value that torch does not know ends it.
        "TORCH_LOGS",
        # Warnings are for developers, to whom the tests show them.
        "PYTHONWARNINGS",
    }
)
DROPPED_PREFIX = "PANDAS_"
"""Of settings that have pandas answer the same call otherwise; a value that it does not know ends it."""

WIDTHS = ("COLUMNS", "JUPYTER_COLUMNS")
MIN_WIDTH = 20
"""Fewer columns are no terminal's, but of a shell that did not know: with 0 rich prints nothing at all."""


def drop_foreign_settings() -> None:
    """Forget them, for this process and all that it starts, and keep libraries' warnings off the terminal."""
    for name, value in list(os.environ.items()):
        is_no_width = name in WIDTHS and not (value.isdecimal() and int(value) >= MIN_WIDTH)
        if name in DROPPED or name.startswith(DROPPED_PREFIX) or is_no_width:
            del os.environ[name]
    # Nothing here is large enough for numpy's threads; where few are allowed, OpenBLAS ends the process by SIGINT.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # such as a warning of a CPU that NNPACK does not know
    sys.warnoptions[:] = ["ignore"]  # a process that is spawned is given these
    warnings.simplefilter("ignore")
