"""Tables in a narrow terminal: long names are folded, and the important columns stay."""

from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from experiments.display import folded, print_ablation, print_tables

LONG = "stn_rotation:loc_lr_factor=1:localisation=deep:start_sd=0.02:consistency=1@resnet18+affine:max_deg=30"
COLUMNS = ("Variant", "Baseline", "Validation %", "Test %", "n", "Difference", "Gap closed %", "Parameters")


@pytest.mark.parametrize("width", [10, 24, 40, 200])
def test_folding_breaks_between_parts_and_loses_nothing(width: int) -> None:
    lines = folded(LONG, width).split("\n")
    assert "".join(line.removeprefix("  ") for line in lines) == LONG
    assert all(len(line) <= width or len(line.removeprefix("  ")) > width - 2 for line in lines)
    assert all(line.startswith(("  :", "  @", "  +")) for line in lines[1:])
    assert folded("cnn", width) == "cnn"


def printed(width: int, show, *arguments: object) -> str:
    console = Console(file=StringIO(), width=width)
    show(console, *arguments)
    return console.file.getvalue()  # type: ignore[attr-defined]


def found() -> SimpleNamespace:
    rows = [
        (LONG, "cnn", "50.0 ± 1.0", "49.0 ± 1.0", "5", "+1.0 ± 0.5 *", "12 ± 3", "243,146"),
        ("cnn", "—", "49.0 ± 1.0", "48.0 ± 1.0", "5", "—", "—", "243,146"),
    ]
    table = SimpleNamespace(columns=COLUMNS, align="llrrrrrr", rows=rows)
    return SimpleNamespace(title="Ablation", sections=[SimpleNamespace(pose="R", table=table)])


def test_the_gap_closed_stays_beside_the_difference() -> None:
    text = printed(80, print_ablation, found())
    assert all(heading in text for heading in ("Variant", "Test %", "Difference", "Gap closed %"))
    assert max(map(len, text.splitlines())) <= 80
    assert "Parameters" not in text and "ablation.md has all notes" in text
    assert "243,146" in printed(200, print_ablation, found())


def test_the_most_important_columns_are_shown() -> None:
    text = printed(50, print_tables, found(), lambda table: ("Variant", "n", "Parameters", "Validation %", "Test %"))
    assert "Parameters" in text and "Validation %" not in text
