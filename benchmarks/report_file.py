"""The JSON file of a benchmark. Only the standard library is imported here: gpu_check runs without most others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.errors import UserError, remedy

REPORT_FORMAT = 1


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Within it the file may be written; raises UserError where it cannot be."""
    try:
        if out.is_dir():  # such as `.`, which has no name
            raise IsADirectoryError(0, "it is a folder")
        yield
    except OSError as error:
        raise UserError(f"out: {out} cannot be written ({error.strerror}){remedy(error)}") from None


def check_writable(out: Path) -> None:
    """Raises UserError if the file cannot be written; leaves it as it is."""
    with writing(out):
        probe = out.with_name(f".{out.name}.{os.getpid()}")
        probe.write_bytes(b"")
        probe.unlink()
