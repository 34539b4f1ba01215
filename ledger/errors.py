"""Errors that a user can cause: one line, exit status 2, no traceback."""

import errno

from ledger.nearest_names import nearest as nearest

STATUS_INCOMPLETE = 1
"""Exit status of a sweep that completed no final run, and of a command that could not make a table or a figure."""


class UserError(ValueError):
    """Something the user wrote or has cannot be used; the message is one line that says what to do."""


REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room within your quota",
    errno.EROFS: "make its file system writable",
    errno.EACCES: "see to its permissions",
    errno.EPERM: "see to its permissions",
    errno.EIO: "see to the disk",
    errno.EAGAIN: "allow more processes (`ulimit -u`)",
}


def remedy(error: BaseException | None) -> str:
    """The hint that ends a message about a file that a full, locked or broken disk refused; "" for other troubles."""
    what = REMEDIES.get(error.errno or 0) if isinstance(error, OSError) else None
    return f"; {what} and give the same command again" if what else ""
