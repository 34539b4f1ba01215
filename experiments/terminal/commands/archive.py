"""`archive`: write a ledger as one file."""

from jsonargparse import Namespace

from ledger.plain_text import plain
from ledger.wording import count


def main(options: Namespace) -> int:
    from ledger.archive import write_archive
    from ledger.sweep_lock import no_sweep_of

    with no_sweep_of(options.ledger):
        num_runs = write_archive(options.ledger, options.out, weights=not options.no_weights)
    size = f"{options.out.stat().st_size / 2**20:,.1f} MiB"
    print(plain(f"{options.out}: {count(num_runs, 'run')}, {size}; `merge {options.out} --into RUNS` reads it"))
    return 0
