"""The ledger and the study of it that a command line names. Needs no torch: looking at results is quick."""

from jsonargparse import Namespace

from experiments.errors import UserError, nearest
from experiments.ledger import Ledger


def existing_ledger(options: Namespace) -> Ledger:
    """The ledger that the options name, to look at. Raises UserError if there is none."""
    if not options.runs.is_dir():
        raise UserError(f"runs: there is no ledger at {options.runs}; `make sweep` makes one")
    return Ledger(options.runs, read_only=True)


def named_study(ledger: Ledger, name: str) -> str:
    """The study of that name, or the latest. Raises UserError if the ledger has none."""
    known = ledger.studies()
    if not known:
        raise UserError(f"runs: {ledger.root} holds no study yet; `make sweep` makes one")
    name = name or known[0]
    if name not in known:
        raise UserError(f"study: {name!r} is not in {ledger.root}; {nearest(name, known)}")
    return name
