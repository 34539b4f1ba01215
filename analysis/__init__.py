"""What the ledger's files say: statistics, tables and figures. Reads finished runs; trains nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what only asks for the name of a figure needs no pandas
    from analysis.frames import Frames


def load(runs: str | Path = "runs") -> "Frames":
    """The ledger at that folder as data frames: its `runs`, `history`, `predictions` and `studies`.

    Raises UserError, which is a ValueError of one line, where there is no ledger.
    """
    from analysis.frames import Frames

    return Frames(Path(runs))
