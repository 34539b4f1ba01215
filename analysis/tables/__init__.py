"""The tables of a study: one file each, found by its decorator, written in four formats.

A builder takes the study's Findings and returns a Table, or None where the study has nothing for it. All but `times`
depend on study.json and on files of the ledger that are the same bytes on every repetition, and so are theirs.
"""

from analysis.tables.building import Builder, build_tables, builders, write_tables

__all__ = ["Builder", "build_tables", "builders", "write_tables"]
