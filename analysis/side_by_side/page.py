"""The page of studies beside each other, with its tables and its figure in files of their own."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.faults import kept
from analysis.formats import DOCUMENTS, Table
from analysis.report.frame import rendered
from analysis.report.method import variant_facts
from analysis.report.page import FIGURES, NAME, Picture, picture
from analysis.reports import write_files
from analysis.side_by_side.studies import SideBySide
from analysis.side_by_side.tables import in_order
from analysis.side_by_side.words import headline, statements

MAX_FOLDER = 200
"""Bytes of a folder's name that studies make; of more, a digest tells them apart."""
PROFILE = "profile"


def folder_name(shown: SideBySide) -> str:
    """What the folder of these studies is called."""
    name = "+".join(shown.studies)
    if len(name.encode()) <= MAX_FOLDER:
        return name
    return f"{len(shown.studies)}-studies-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def write_side_by_side(shown: SideBySide, tables: Mapping[str, Table], out: Path) -> Path:
    """Write tables, as build makes them, figure and page into `out`; returns the page's path.

    A figure that cannot be drawn is among shown.faults. Raises UserError if `out` cannot be written.
    """
    content = {
        f"{name}.{end}": write(table).encode() for name, table in tables.items() for end, write in DOCUMENTS.items()
    }
    drawn: dict[str, bytes] = {}
    pictures: list[Picture] = []
    with kept(shown.faults, f"figure {PROFILE}"):
        drawn, pictures = _draw(shown)
    content |= drawn | {NAME: page_html(shown, tables, pictures).encode()}
    optional = [f"{name}.{end}" for name in ("ranks", PROFILE) for end in DOCUMENTS] + [
        PROFILE + kind for kind in FIGURES
    ]
    write_files(out, content, optional=optional)
    return out / NAME


def _draw(shown: SideBySide) -> tuple[dict[str, bytes], list[Picture]]:
    """The files of the figure, by name, and the figure as the page shows it; none where there is none."""
    from analysis.figures import style  # plotting is slow to import
    from analysis.figures.dark import for_any_light
    from analysis.figures.registry import figure_files
    from analysis.side_by_side.profile import CAPTION, profile_figure

    order = [variant for variant in in_order(shown) if variant in shown.ranked]
    with style.applied(shown.settings[0].findings.study):
        wide = profile_figure(shown, order)
        narrow = profile_figure(shown, order, width_in=style.COLUMN_IN)
        if wide is None or narrow is None:
            return {}, []
        files, slim = figure_files(wide), figure_files(narrow, ["svg"])["svg"]
    seen = picture(PROFILE, CAPTION, for_any_light(files["svg"]), files["png"], for_any_light(slim))
    return {f"{PROFILE}.{kind}": data for kind, data in files.items()}, [seen]


def page_html(shown: SideBySide, tables: Mapping[str, Table], pictures: list[Picture]) -> str:
    """The page. pictures: the profile, if there is one."""
    failed = [Picture(PROFILE, "")] if f"figure {PROFILE}" in shown.faults else []
    facts = {fact.name: fact for setting in shown.settings for fact in variant_facts(setting.findings.study)}
    values: dict[str, Any] = {
        "title": "Several studies side by side",
        "headline": headline(shown),
        "statements": list(statements(shown)),
        "studies": shown.studies,
        "tables": tables,
        "pictures": pictures or failed,
        "variants": [facts[name] for name in shown.variants if name in facts],
        "faults": shown.faults,
        "poses": (),
    }
    return rendered("side_by_side.html", values)
