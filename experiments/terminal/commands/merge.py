"""`merge`: put ledgers of several machines, or archives of them, into one."""

from jsonargparse import Namespace

from ledger.plain_text import plain


def main(options: Namespace) -> int:
    from ledger.merging import merge

    for line in merge(options["from"], options.into):
        print(plain(line))
    return 0
