"""`verify-docs`: compute the numbers of the documents again from the committed results; status 1 if any differs."""

from pathlib import Path

from jsonargparse import Namespace

from analysis.document_numbers import verify
from ledger.wording import count


def main(options: Namespace) -> int:
    checked = verify(options.claims, Path())
    for document, num in sorted(checked.num_numbers.items()):
        print(f"{document}: {count(num, 'number')} computed again")
    for difference in checked.differences:
        print(difference)
    if checked.differences:
        print(f"{count(len(checked.differences), 'difference')} between documents and results")
    return 1 if checked.differences else 0
