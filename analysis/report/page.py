"""The page of a report, and the figures beside it."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.answer import headline, statements
from analysis.faults import kept
from analysis.findings import Findings
from analysis.formats import Table, one_line
from analysis.leader import best_text
from analysis.lost_runs import unfinished
from analysis.records import study_file
from analysis.report.contact_sheet import sheet_bytes, shown_sheet
from analysis.report.frame import rendered
from analysis.report.method import (
    GLOSSARY,
    facts,
    image_facts,
    machine_facts,
    method,
    named_variants,
    protocol_facts,
    variant_facts,
)
from analysis.report.reproduce import commands, notes
from analysis.reports import write_files
from analysis.tables import build_tables
from analysis.verdicts import BADGES, verdicts
from analysis.wording import size_text

NAME = "report.html"


@dataclass(frozen=True)
class Picture:
    """A figure as the report shows it. source: "" if it could not be drawn. size_px: width and height, as printed.

    narrow: a drawing of it for phones; moving: what curves.js draws in its place, as JSON; "" where there is none.
    """

    name: str
    caption: str
    source: str = ""
    size_px: tuple[int, int] = (0, 0)
    narrow: str = ""
    moving: str = ""

    @property
    def is_pixels(self) -> bool:
        """Whether it has no dark form."""
        return self.source.startswith("data:image/png")


@dataclass(frozen=True)
class Part:
    """A chapter of the report. short: its name in the contents; tables, figures: by name, in the order of reading."""

    id: str
    short: str
    title: str
    lead: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]


LADDER = "ladder"

PARTS = (
    Part(
        "evidence", "Evidence", "The evidence",
        "What each variant scores on test images that no tuning has seen, and how it differs from what it is compared "
        "with. Every difference is between runs with the same seed: the same images in the same order.",
        (
            "leaderboard", "test_pose", "claims", "ladder", "dependence", "factorial", "factors", "ablation",
            "parameters", "classes",
        ),
        ("forest", LADDER, "dependence", "ablation", "ranges", "confusion", "calibration"),
    ),
    Part(
        "costs", "Costs", "What it costs",
        "Accuracy is bought with computation, time and memory. FLOPs are the same on every machine, seconds are not.",
        ("costs", "times"), ("cost",),
    ),
    Part(
        "invariance", "Robustness", "Where it holds",
        "Test images are turned, enlarged, shifted and corrupted: how much accuracy is left?",
        ("invariance", "corruptions"),
        ("rotation", "rotation_agreement", "scale_shift", "severity", "corruptions"),
    ),
    Part(
        "transformers", "Transformers", "What the transformers do",
        "A spatial transformer is only worth its cost if it moves different images differently, and rightly. Here is "
        "what the maps are that it applies.",
        ("transformer",), ("gallery", "transformations", "pose_scatter", "look"),
    ),
    Part(
        "tuning", "Tuning", "How settings were found",
        "Settings are chosen on validation images only; the chosen ones are trained again with fresh seeds, and only "
        "those runs count.",
        ("hyper_parameters",), ("curves", "tuning", "tuning_budget", "importance", "slices"),
    ),
    Part(
        "failures", "Failures", "What went wrong",
        "Runs that failed, diverged or are missing are counted here and are in no mean.",
        ("failures",), (),
    ),
    Part(
        "runs", "Runs", "Every run", "Each final run with its key, the name of its folder in the ledger.", ("runs",), ()
    ),
)  # fmt: skip
MORE = Part("more", "More", "More", "", (), ())

FOLDED = ("ablation", "times", "runs")
"""Tables that are shown on demand: they hold what others say, in more detail."""

FIGURES = (".png", ".svg", ".pdf")
"""What their files end in, known where plotting cannot be imported."""

KEY_FIGURES = ("forest", "ablation", LADDER)
"""The first of these that there is stands beside the answer, and the ladder behind it."""


def write_report(findings: Findings, out: Path) -> Path:
    """Write report.html, and every figure in a file of its own, into `out`; returns the report's path.

    A figure that cannot be drawn is among findings.faults, and the page says so in its place; so is the page itself.
    Raises UserError (a ValueError of one line) if the ledger cannot be understood or `out` cannot be written.
    """
    pictures: list[Picture] = []
    content, optional = {}, [NAME]
    with kept(findings.faults, "figures"):
        pictures.extend(_pictures(findings, out))
    if "figures" in findings.faults:  # those of an earlier report: each is in all formats, unlike other people's files
        drawn = [p for p in out.glob("*.png") if all(p.with_suffix(kind).is_file() for kind in FIGURES)]
        optional += [f"{path.stem}{kind}" for path in drawn for kind in FIGURES]
    with kept(findings.faults, "report"):
        content[NAME] = report_html(findings, pictures, out).encode()
    write_files(out, content, optional=optional)
    return out / NAME


def _pictures(findings: Findings, out: Path) -> Iterator[Picture]:
    """Writes every figure into `out`; yields those that there are, and those that could not be drawn."""
    from analysis.figures import fonts, style  # plotting is slow to import
    from analysis.figures.curves import moving_curves
    from analysis.figures.dark import for_any_light
    from analysis.figures.registry import builders, narrow_drawings, write_figures

    files = {path.name: path for path in write_figures(findings, out)}
    narrow, moving = narrow_drawings(findings), ""
    with kept(findings.faults, "moving curves"):
        found = moving_curves(findings)
        moving = json.dumps(found, ensure_ascii=False, separators=(",", ":")) if found else ""
    with style.applied(findings.study):
        classes, note = fonts.class_key(findings.study), fonts.note(findings.study)
    findings.notes.extend([note] if note else [])
    for name, (caption, _) in builders().items():
        if classes and name == "confusion":  # it names classes, and numbers those whose letters no font has
            caption = f"{caption} In it, {classes}."
        if f"{name}.png" in files:
            svg, png = (files[f"{name}.{kind}"].read_bytes() for kind in ("svg", "png"))
            slim = for_any_light(narrow[name]) if name in narrow else None
            shown = picture(name, caption, for_any_light(svg), png, slim)
            yield replace(shown, moving=moving) if name == "curves" else shown
        elif f"figure {name}" in findings.faults:
            yield Picture(name, caption)


def is_whole(page: Path) -> bool:
    """Whether there is such a report, and nothing in it could not be made."""
    return page.is_file() and b'class="fault"' not in page.read_bytes()


def is_made_from(page: Path, findings: Findings, tables: Mapping[str, Table]) -> bool:
    """Whether it is a whole report of just these tables, this study.json and the contact sheet beside it."""
    return is_whole(page) and f'content="{_digest(findings, tables, page.parent)}"'.encode() in page.read_bytes()


def _digest(findings: Findings, tables: Mapping[str, Table], out: Path | None) -> str:
    study = study_file(findings.study.ledger, findings.study.name).read_bytes()
    return hashlib.sha256(study + repr(tables).encode() + sheet_bytes(out)).hexdigest()


def picture(name: str, caption: str, svg: bytes, png: bytes, narrow: bytes | None = None) -> Picture:
    """A figure whose data are in its address: the drawing, or its pixels where these are much smaller.

    narrow: the drawing for phones.
    """
    kind, data = ("svg+xml", svg) if len(svg) <= max(400_000, len(png)) else ("png", png)
    # Saved at 160 dots per inch, shown at 128: a page has 96, and is read from farther away than paper.
    width, height = (round(int.from_bytes(png[at : at + 4]) * 128 / 160) for at in (16, 20))
    return Picture(name, caption, _address(kind, data), (width, height), _address("svg+xml", narrow) if narrow else "")


def _address(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def report_html(findings: Findings, pictures: Sequence[Picture], out: Path | None = None) -> str:
    """The report. pictures: of the figures, in any order. out: the folder that it is for."""
    study, tables, by_name = findings.study, build_tables(findings), {picture.name: picture for picture in pictures}
    key_names = [name for name in KEY_FIGURES if name in by_name and by_name[name].source]
    key_names = key_names[:1] + [name for name in key_names[1:] if name == LADDER]
    poses = tuple(dict.fromkeys(arm.pose for arm in study.arms))
    found, best = list(verdicts(findings)), {pose: list(best_text(findings, pose)) for pose in poses}
    first_said = [verdict.detail for verdict in found] + [text for of_pose in best.values() for text in of_pose]
    values: dict[str, Any] = {
        "title": f"Shown or learned? {one_line(study.task_label)}",
        "study": study,
        "made_from": _digest(findings, tables, out),
        "headline": headline(findings),
        "unfinished": unfinished(findings),
        "warnings": study.images.warnings if study.images else (),
        "verdicts": found,
        "size": size_text(study),
        "badges": BADGES,
        "best": best,
        "named": named_variants(study, first_said if found else ()),
        "statements": statements(findings),
        "facts": list(facts(findings)),
        "key_figures": [by_name.pop(name) for name in key_names],
        "variants": variant_facts(study),
        "sheet": shown_sheet(out),
        "parts": list(_parts(tables, by_name)),
        "faults": findings.faults,
        "method": method(findings),
        "folded": FOLDED,
        "images": list(image_facts(study)),
        "protocol": list(protocol_facts(study)),
        "machine": list(machine_facts(study)),
        "glossary": GLOSSARY,
        "commands": commands(findings),
        "command_notes": notes(study),
        "poses": poses,
    }
    return rendered("template.html", values, ("script.js", "curves.js"))


def _parts(tables: Mapping[str, Table], pictures: Mapping[str, Picture]) -> Iterator[dict[str, Any]]:
    """Each chapter that has something to show: its tables and pictures in its order; the last has what is left."""
    rest_tables, rest_pictures = dict(tables), dict(pictures)
    for part in (*PARTS, MORE):
        names = tuple(rest_tables) if part is MORE else part.tables
        of_part = [rest_tables.pop(name) for name in names if name in rest_tables]
        names = tuple(rest_pictures) if part is MORE else part.figures
        drawn = [rest_pictures.pop(name) for name in names if name in rest_pictures]
        if of_part or drawn:
            yield {"about": part, "tables": of_part, "pictures": drawn}
