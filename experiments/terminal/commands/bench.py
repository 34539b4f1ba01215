"""`bench`: measure speed."""

from jsonargparse import Namespace

from experiments.machine import cores
from ledger.errors import UserError


def main(options: Namespace) -> int:
    """Measure speed. Raises UserError where the usual way cannot run."""
    check_loaders("bench")
    from benchmarks.speed import measure

    return measure(options.out, quick=options.quick)


def check_loaders(command: str) -> None:
    """Raises UserError where PyTorch's loaders, which are processes, cannot run."""
    if cores.lacks_shared_memory():
        raise UserError(f"{command}: {cores.SHARED_MEMORY}, which PyTorch's loaders need, cannot be written; mount one")
