"""The ledger and the study of it that a command line names. Needs no torch: looking at results is quick."""

from jsonargparse import Namespace

from ledger.errors import UserError, nearest
from ledger.ledger import Ledger
from ledger.plain_text import plain

MAX_NAMED = 8
"""Studies."""


def existing_ledger(options: Namespace) -> Ledger:
    """The ledger that the options name, to look at. Raises UserError if there is none."""
    if not options.runs.is_dir():
        raise UserError(f"runs: there is no ledger at {options.runs}; `make sweep` makes one")
    return Ledger(options.runs, read_only=True)


def named_study(ledger: Ledger, name: str) -> str:
    """The study of that name, or the latest; then a line says which of several. Raises UserError for another one."""
    known = sorted(ledger.studies(), key=lambda study: not _has_finals(ledger, study))
    if not known:
        raise UserError(f"runs: {ledger.root} holds no study yet; `make sweep` makes one")
    if name and name not in known:
        raise UserError(f"study: {name!r} is not in {ledger.root}; {nearest(name, known)}")
    if not name and len(known) > 1:
        others = plain(", ".join(known[1:MAX_NAMED]) + (", ..." if len(known) > MAX_NAMED else ""))
        print(f"Study {plain(known[0])}, the latest of {len(known)}. The others, for --study or `make ... STUDY=`:")
        print(f"  {others}\n")
    return name or known[0]


def _has_finals(ledger: Ledger, study: str) -> bool:
    """Whether the study is to have final runs; one that only chose what another study compares has none to report."""
    try:
        return ledger.read_study(study, whole=False).get("num_finals") != 0
    except UserError:  # of a damaged one is said what is wrong where it is read
        return True
