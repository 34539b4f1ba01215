"""A board: finished studies of several people, in one order where they share task and protocol.

`entries.py` says whose ledgers count and what they share, `standings.py` how their variants stand, `page.py` makes the
page.
"""

from analysis.board.page import NAME, write_board

__all__ = ["NAME", "write_board"]
