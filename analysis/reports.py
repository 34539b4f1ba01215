"""Files of a report, each written whole or not at all."""

import os
from collections.abc import Iterable
from pathlib import Path

from analysis.errors import AnalysisError


def write_files(out: Path, content: dict[str, bytes], *, optional: Iterable[str] = ()) -> list[Path]:
    """Write each name's bytes into `out`: beside its place, flushed to disk, then renamed.

    optional: names that are deleted where `content` lacks them, so that nothing of an earlier report lies beside this.
    Returns the paths in the order given. Raises AnalysisError if `out` cannot be written; no half-written file stays.
    """
    paths = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            draft = out / f".{name}.{os.getpid()}"
            try:
                with draft.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(out / name)
            finally:
                draft.unlink(missing_ok=True)
            paths.append(out / name)
        for name in set(optional) - set(content):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise AnalysisError(f"{error.filename or out}: cannot be written: {error.strerror}") from error
    return paths
