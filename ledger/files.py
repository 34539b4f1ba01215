"""Files that appear whole or not at all, and whether the process that writes one still lives."""

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Old content or new, never a mixture: a temporary file is flushed to disk, then renamed over the path.

    Raises OSError with the path as its filename; nothing half-written is left then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:  # of a full disk, none says on which file
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


NO_FLUSHING = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What some mounts (SMB, FUSE, 9p) answer where folders cannot be flushed at all."""


def flush_folder(folder: Path) -> None:
    """Renames are on disk only when their folder is; where it cannot be flushed, that is left to the mount."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FLUSHING:
            raise
    finally:
        os.close(descriptor)


def to_json(value: Any) -> bytes:
    """Readable, and the same bytes for the same value."""
    return (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def process_is_alive(pid: int) -> bool:
    """Whether the process can still do something; one that has ended and waits for its parent to notice cannot."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has such a number
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/stat").exists()  # a system without such files, or it has just ended
    except OSError:  # it cannot be looked at
        return True
    return state != "Z"
