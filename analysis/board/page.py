"""The page of a board: a section for each task and protocol that several people share."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from analysis.board.entries import Gathered, Ground, LeftOut, gather
from analysis.board.standings import Board, Line, board_of
from analysis.board.words import UNRANKED, conflicts, notes, open_text, resolution_text, who_text
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import Cell, Section, Table, one_line
from analysis.means import mean_cell
from analysis.report.frame import rendered
from analysis.report.method import protocol_facts
from analysis.reports import write_files
from analysis.tables.columns import Column, text_of
from analysis.wording import pose_words, size_text
from ledger.wording import listed

NAME = "board.html"


class Written(NamedTuple):
    """What whoever wrote a board has to know. refused: ledgers and studies. warnings: of contradictory results."""

    refused: list[LeftOut]
    warnings: list[str]


def write_board(folder: Path, out: Path) -> Written:
    """Write the board of the ledgers in the folder as one file.

    Raises UserError, and writes nothing, where no ledger is left, and where no two people share task and protocol.
    """
    with tempfile.TemporaryDirectory(prefix="stn-bench-board-") as scratch, ExitStack() as stack:
        gathered = gather(folder, stack, Path(scratch))
        boards = {ground: board_of(entries) for ground, entries in gathered.shared.items()}
        page = board_html(folder, gathered, boards)
        warnings = [text for board in boards.values() for text in conflicts(board)]
    write_files(out.parent, {out.name: page.encode()})
    return Written(gathered.refused, warnings)


def board_html(folder: Path, gathered: Gathered, boards: Mapping[Ground, Board]) -> str:
    """The page. folder: where the ledgers are."""
    people = sorted({who for entries in gathered.shared.values() for entry in entries for who in entry.who})
    alone = gathered.ledgers.keys() - {*people, *(each.who for each in gathered.left_out)}
    values: dict[str, Any] = {
        "title": f"Board of {one_line(folder.resolve().name)}",
        "headline": f"Finished studies of {listed([one_line(who) for who in people])}",
        "boards": [_shown(number, *shared) for number, shared in enumerate(boards.items(), 1)],
        "refused": gathered.refused,
        "left_out": [
            *gathered.left_out,
            *(LeftOut(who, "it shares no task and protocol with others") for who in sorted(alone)),
        ],
        "faults": {},
        "poses": (),
    }
    return rendered("board.html", values)


def _shown(number: int, ground: Ground, board: Board) -> dict[str, Any]:
    """A section of the page."""
    studies = [line.entry.findings.study for line in board.lines]
    title = " / ".join(dict.fromkeys(one_line(study.task_label) for study in studies))
    if ground.pose != "upright" or ground.test_pose:
        title += f", {pose_words(studies[0], ground.pose)}"
    sizes = [size_text(study).split(", ") for study in studies]
    return {
        "id": f"board-{number}",
        "title": title,
        "size": ", ".join(part for part in sizes[0] if all(part in size for size in sizes)),
        "protocol_hash": ground.protocol_hash,
        "statements": [text for text in (resolution_text(board), open_text(board), *conflicts(board)) if text],
        "table": _table(number, title, board),
        "protocol": list(protocol_facts(studies[0])),
    }


def _table(number: int, title: str, board: Board) -> Table:
    unit = flop_unit(line.entry.row.train_flops for line in board.lines)

    def rank(line: Line) -> Cell | None:
        return None if line.rank is None else Cell(str(line.rank), line.rank)

    def possible(line: Line) -> Cell | None:
        return None if line.rank is None else Cell(str(line.rank) + f" to {line.last}" * (line.last != line.rank))

    def seeds(line: Line) -> Cell:
        num, planned = len(line.entry.row.test_by_seed), len(line.entry.row.finals)
        return Cell(str(num) if num == planned else f"{num} of {planned}", num)

    columns: list[Column[Line]] = [
        Column("Variant", "", "l", lambda line: line.entry.arm.variant + (f" {UNRANKED}" if line.why_not else "")),
        Column("Rank", "", "r", rank),
        Column("Possible ranks", "", "r", possible),
        Column("Test %", "", "r", lambda line: mean_cell(line.entry.row.test_accuracy)),
        Column("Who", "", "l", who_text),
        Column("Seeds", "", "r", seeds),
        Column("Training FLOPs", "", "r", lambda line: flop_cell(line.entry.row.train_flops, unit)),
        Column("Parameters", "", "r", lambda line: count_cell(line.entry.row.num_parameters)),
        Column("Trials", "", "r", lambda line: sum(line.entry.row.trial_statuses.values())),
    ]
    section = Section("", text_of(columns, board.lines), ())
    return Table("", f"lines-{number}", f"{title}: who stands where", (section,), tuple(notes(board)), (), ())
