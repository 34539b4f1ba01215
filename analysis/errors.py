"""Errors that a reader of tables can cause: one line that names the file and what to do."""

import re
from collections.abc import Iterable


class AnalysisError(ValueError):
    """The ledger cannot be read, or a report cannot be written; the message is one line."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: what was meant, or all that are known.

    Of a ledger's names, which have no synonyms; ledger/nearest_names.py knows those, and is not to be imported.
    """
    known = sorted(known)
    meant = [each for each in known if _is_slip(name, each)]
    if len(meant) == 1:
        return f"did you mean {meant[0]!r}?"
    return "known: " + ", ".join(known) if known else "none are known"


def _is_slip(name: str, known: str) -> bool:
    """Whether one letter is dropped, added, changed or swapped with the next, but for separators; never a number."""
    if re.findall(r"\d+", name) != re.findall(r"\d+", known):
        return False
    name, known = (re.sub(r"[\W_]", "", each.lower()) for each in (name, known))
    alike = next((i for i in range(len(name)) if name[i : i + 1] != known[i : i + 1]), len(name))
    rest, known_rest = name[alike:], known[alike:]
    is_swap = rest[:2] == known_rest[1::-1] and rest[2:] == known_rest[2:]
    is_one = any(rest[i:] == known_rest[j:] for i, j in ((1, 0), (0, 1), (1, 1)))
    return len(known) > 2 and (is_one or is_swap)
