"""Text of any origin, made fit for a terminal: one line that a terminal prints and does not obey."""

import unicodedata

from rich.markup import escape

JOINERS = "\u200c\u200d"
"""Zero-width, but letters of some scripts, and emoji, are written with them."""


def plain(text: object) -> str:
    """The text as one line, without escape sequences, changes of direction, invisible characters and halves of them."""
    line = str(text)
    if not line.isprintable():
        line = "".join(character if _is_seen(character) else " " for character in line)
    return " ".join(line.split())


def _is_seen(character: str) -> bool:
    return character in JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def as_markup(text: object) -> str:
    """The same for rich, which would take [red] for a colour."""
    return escape(plain(text))
