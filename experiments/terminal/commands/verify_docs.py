"""`verify-docs`: compute the numbers of the documents again."""

from pathlib import Path

from jsonargparse import Namespace

from analysis.document_numbers import verify
from ledger.wording import count


def main(options: Namespace) -> int:
    """Compute the numbers of the documents again from the committed results; 1 if any differs."""
    found = verify(options.claims, Path())
    for document, num in sorted(found.num_numbers.items()):
        print(f"{document}: {count(num, 'number')} computed again")
    for difference in found.differences:
        print(difference)
    if found.differences:
        print(f"{count(len(found.differences), 'difference')} between documents and results")
    return 1 if found.differences else 0
