"""`variants`: list everything that a name can stand for."""

import json

from jsonargparse import Namespace
from rich.console import Console

from experiments.catalogue import catalogue
from experiments.display import (
    print_entries,
    print_variants,
)


def main(options: Namespace) -> int:
    """List everything that a name can stand for, or say all about one name."""
    found = catalogue(options.name)
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.name:
        print_entries(Console(), found)
    else:
        print_variants(Console(), found)
    return 0
