"""Names of folders from labels that people give."""

import hashlib
import re
from unicodedata import category, normalize

MAX_SLUG = 48
"""Characters of a file's name that a label makes."""


def slug(label: str) -> str:
    """The label as a part of a file's name: its letters and digits, of any script, in at most 48 characters.

    Digits of the label's hash follow where others may come to the same: its end was cut off, or symbols such as emoji
    left out; spaces and punctuation make no difference.
    """
    text = normalize("NFC", normalize("NFD", label).casefold())
    name = re.sub("-+", "-", "".join(each if _is_part_of_word(each) else "-" for each in text)).strip("-")
    short = _cut(name, MAX_SLUG)
    symbols = any(not each.isascii() and category(each)[0] not in "LMNPZ" for each in text)
    if name and short == name and not symbols:
        return name
    digits = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{_cut(name, MAX_SLUG - 7) or 'task'}-{digits}"


def _is_part_of_word(character: str) -> bool:
    """Letters of many scripts are written with marks, which no variation of an emoji is."""
    is_mark = category(character) in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f"
    return character.isalnum() or is_mark


def _cut(name: str, num: int) -> str:
    """Its first characters, in no more than three bytes each, since file systems count those."""
    return name[:num].encode()[: 3 * num].decode(errors="ignore").strip("-")
