"""Errors that a user can cause: one line, exit status 2, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user wrote or has cannot be used; the message is one line that says what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: the closest known ones, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(known) if known else "none are known"
