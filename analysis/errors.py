"""Errors that a reader of tables can cause: one line that names the file and what to do."""

import difflib
from collections.abc import Iterable


class AnalysisError(ValueError):
    """The ledger cannot be read, or a report cannot be written; the message is one line."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: the closest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.65)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(known) if known else "none are known"
