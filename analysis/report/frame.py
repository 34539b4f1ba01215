"""A page of one file: a template of this folder, with the looks of all of them and what moves in them."""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.formats import Section, Table, html_table, one_line, visible
from analysis.formats.table import places
from analysis.wording import capital, pose_words

MAX_SECTIONS = 6
"""Parts that a table shows at once; of more, those that are like the first."""

_FOLDER = Path(__file__).parent


def rendered(template: str, values: dict[str, Any], scripts: Sequence[str] = ("script.js",)) -> str:
    """The page that the template makes of these values. It needs no network, and runs these scripts and no other."""
    script = "".join((_FOLDER / name).read_text(encoding="utf-8") for name in scripts)
    looks = {
        # Ours, without user's text in them.
        "style": Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return _environment().get_template(template).render(looks | values)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_fit_for_a_page,
    )
    environment.filters |= {"capital": capital, "one_line": one_line, "tied": _tied}
    environment.globals |= {
        "html_table": lambda section: Markup(html_table(section.table)),
        "places": places,
        "pose_words": pose_words,
        "section_pose": _section_pose,
        "shown_first": _shown_first,
    }
    return environment


def _fit_for_a_page(value: Any) -> Any:
    """What the template is given, as it shows it: a browser obeys some characters that nobody sees."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _shown_first(table: Table) -> list[list[Section]]:
    """The sections of a table in two lists: those to see, and, where there are many, those to see on demand."""
    if len(table.sections) <= MAX_SECTIONS:
        return [list(table.sections), []]
    columns = table.sections[0].table.columns
    return [[s for s in table.sections if (s.table.columns == columns) is alike] for alike in (True, False)]


def _section_pose(heading: str, poses: Sequence[str]) -> str:
    """The pose that a section's heading names, such as `Pose R: accuracy`; "" where it names none."""
    names = [pose for pose in poses if heading == f"Pose {pose}" or heading.startswith(f"Pose {pose}: ")]
    return max(names, key=len, default="")


def _tied(text: str) -> str:
    """The text with spaces that no line ends at within numbers."""
    return re.sub(r" ([±=<]) |(?<=Holm) (?=p)", lambda space: space[0].replace(" ", "\u00a0"), text)
