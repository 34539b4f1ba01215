"""Columns of what a prediction costs, whatever machine makes it: variants that look several times pay when tested."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from analysis.ablation import Row
from analysis.flops import flop_cell, flop_unit
from analysis.formats import Cell
from analysis.tables.columns import Column

_Row = TypeVar("_Row")


def prediction_columns(rows: Sequence[Row], row_of: Callable[[_Row], Row]) -> list[Column[_Row]]:
    """FLOPs and passes; none where no run says, as in older ledgers. row_of: the arm's row that a row shows some of."""
    unit = flop_unit(row.predict_flops for row in rows)
    if all(row.predict_flops is None for row in rows):
        return []
    return [
        Column("Prediction FLOPs", "predict_flops", "r", lambda row: flop_cell(row_of(row).predict_flops, unit)),
        Column("Passes", "predict_passes", "r", lambda row: _passes_cell(row_of(row).predict_passes)),
    ]


def _passes_cell(passes: float | None) -> Cell | None:
    return None if passes is None else Cell(f"{passes:g}", passes)


def prediction_note(columns: Sequence[Column[_Row]]) -> Iterator[str]:
    """What they mean, where there are any."""
    if columns:
        yield (
            "Prediction FLOPs are those of classifying one image when tested, counted as those of training are; passes "
            "say how often the backbone looks at it, or at copies of it. Gains that cost several passes compare with "
            "what averaging over as many copies gains: cnn_tta."
        )
