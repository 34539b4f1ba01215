"""Several studies beside each other: the variants that all of them have, each on its own images and at its own size.

`studies.py` says what is compared and what is left out, `tables.py` and `profile.py` show it, `page.py` makes one page.
"""

from analysis.side_by_side.page import write_side_by_side
from analysis.side_by_side.studies import SideBySide, side_by_side

__all__ = ["SideBySide", "side_by_side", "write_side_by_side"]
