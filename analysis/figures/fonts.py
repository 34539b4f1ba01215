"""Letters that our font lacks: an installed font has them, or something else stands for them; never an empty box.

Latin, Greek, Cyrillic and Arabic look the same on every machine; Chinese, Japanese, Korean, Indic and Thai letters and
most emoji do not: DejaVu lacks them, so how they look depends on the fonts that are installed.
"""

import json
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from analysis.formats import one_line
from analysis.records import Study

FONT = "DejaVu Sans"
"""Comes with matplotlib: the same picture on every machine."""


def families(study: Study) -> list[str]:
    """The fonts for the study's names: ours, and as few installed ones as have what it lacks, the plainest first."""
    return [FONT, *_installed(frozenset(missing("".join(_texts(study)), (FONT,))))]


@lru_cache
def _installed(letters: frozenset[str]) -> tuple[str, ...]:
    """Files are looked through, since matplotlib's list of them may be older than the fonts: once, it takes seconds."""
    wanted, names = set(letters), list[str]()
    files = map(Path, font_manager.findSystemFonts()) if wanted else ()
    for file in sorted(files, key=lambda file: ("Sans" not in file.stem, "Regular" not in file.stem, file.name, file)):
        if not wanted:
            break
        try:
            font = font_manager.get_font(str(file))
            has = {c for c in wanted if font.get_char_index(ord(c))}
            if has:
                font_manager.fontManager.addfont(str(file))  # refuses those of coloured pixels
        except Exception:  # whatever is wrong with a font, another one may do
            continue
        if has:
            names.append(font.family_name)
            wanted -= has
    return tuple(names)


def missing(text: str, fonts: Iterable[str] = ()) -> set[str]:
    """Its characters that none of the fonts has; by default those in use."""
    installed = [_font(name) for name in fonts or matplotlib.rcParams["font.family"]]
    return {c for c in text if _has_shape(c) and not any(font.get_char_index(ord(c)) for font in installed)}


def drawable(text: str) -> str:
    """The text with ? for each character that no font in use has."""
    lacking = missing(text)
    return "".join("?" if c in lacking else c for c in text) if lacking else text


def class_names(study: Study) -> list[str]:
    """The classes, with the numbers of those that no font in use can write."""
    return [f"class {i}" if missing(name) else name for i, name in enumerate(map(one_line, study.classes), start=1)]


def class_key(study: Study) -> str:
    """Which classes have numbers; "" where none has."""
    named = zip(class_names(study), map(one_line, study.classes), strict=True)
    return "; ".join(f"{shown} is {name}" for shown, name in named if shown != name)


def note(study: Study) -> str:
    """A line for the terminal on the letters that are missing; "" where none is."""
    lacking = sorted(missing("".join(_texts(study))))
    if not lacking:
        return ""
    shown = " ".join(lacking[:12]) + (" ..." if len(lacking) > 12 else "")
    return (
        f"figures: no font installed here has {shown}; classes have numbers in their place, which the report explains, "
        "other names a question mark; install a font that has them, such as Noto Sans, and `make report` again"
    )


def _texts(study: Study) -> list[str]:
    """All that figures write and that is not ours."""
    spaces = json.dumps([arm.space for arm in study.arms], ensure_ascii=False)
    names = [name for arm in study.arms for name in (arm.pose, arm.variant)]
    return [*map(one_line, [study.task_label, study.name, *study.classes, *names, spaces])]


def _has_shape(character: str) -> bool:
    """Joiners and selectors have none."""
    return not character.isspace() and unicodedata.category(character) != "Cf" and not "\ufe00" <= character <= "\ufe0f"


@lru_cache(64)
def _font(family: str) -> FT2Font:
    return font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=[family])))
