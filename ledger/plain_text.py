"""Text of any origin, made fit for a terminal: one line that a terminal prints and does not obey."""

import codecs
import io
import re
import unicodedata
from collections.abc import Iterable
from typing import TextIO


def plain(text: object) -> str:
    """The text as one line, without escape sequences, changes of direction, invisible characters and halves of them."""
    return " ".join(visible(str(text)).split())


def visible(text: str) -> str:
    """With a space for each character that is not seen, such as one that turns the direction of what follows."""
    unseen, joiners = ("Cc", "Cf", "Cs", "Zl", "Zp"), "\u200c\u200d"  # letters of some scripts, and emoji, need these
    seen = (c if c in joiners or unicodedata.category(c) not in unseen else " " for c in text)
    return text if text.isprintable() else "".join(seen)


def listed(names: Iterable[str], most: int = 8, *, between: str = ", ") -> str:
    """The first of them, and how many more there are: such as `a, b, ... (3 more)`."""
    named = list(names)
    return between.join(named[:most]) + f"{between}... ({len(named) - most:,} more)" * (len(named) > most)


def as_markup(text: object) -> str:
    """One line of plain text for rich, which would take [red] for a colour."""
    from rich.markup import escape  # plain text does without

    return escape(plain(text))


STAND_INS = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "×": "x", "°": " deg", "²": "2", "…": "...", "·": "|", "→": "->",
    "≤": "<=", "≥": ">=", "†": "#", "µ": "u", "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ",
}  # fmt: skip
"""What is printed in their place where an output's encoding lacks them, as latin-1 and ASCII do."""


def print_anything(stream: TextIO | None) -> None:
    """From now on the stream prints every text: letters that its encoding lacks, and bytes of files' names, escaped."""
    if isinstance(stream, io.TextIOWrapper):  # None where it was closed, another kind in a notebook
        stream.reconfigure(errors=_stand_in.__name__)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, rest = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a file's name
        return f"\\x{ord(character) - 0xDC00:02x}", rest
    stand_in = STAND_INS.get(character) or character.encode("ascii", "backslashreplace").decode()
    if character == "±" and re.match(r" \d", error.object[rest : rest + 2]):
        rest += 1  # `1.2 +-0.3` is as long as `1.2 ± 0.3`: columns stay below each other
    return stand_in, rest


codecs.register_error(_stand_in.__name__, _stand_in)
