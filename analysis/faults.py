"""A fault in one table or figure: it is named, and costs none of the others."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from analysis.formats import one_line
from ledger.errors import UserError

_ROOT = Path(__file__).parents[1]
_OURS = _ROOT / "analysis", _ROOT / "experiments", _ROOT / "ledger"


class Fault(NamedTuple):
    """place: the kind of error and where it came up. said: its own words. of_program: not of the machine."""

    place: str
    said: str
    of_program: bool


Faults = dict[str, Fault]
"""By what could not be made, such as `figure cost`."""


@contextmanager
def kept(faults: Faults, what: str) -> Iterator[None]:
    """What goes wrong within it is kept as the fault of `what`.

    A ledger that cannot be understood, files that cannot be written (UserError), and too little memory, no thread
    or no library of the machine end the command as ever: they are not about one table or figure.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if str(error) == "can't start new thread" or (isinstance(error, ImportError) and ".so" in str(error)):
            raise
        frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        *_, (file, line) = (frame for frame in frames if any(map(frame[0].is_relative_to, _OURS)))
        place = f"{type(error).__name__} in {file.relative_to(_ROOT).as_posix()}, line {line}"
        faults[what] = Fault(place, one_line(str(error))[:200], not isinstance(error, OSError))
