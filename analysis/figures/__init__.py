"""The figures of a study: each is found by its decorator, and written as PNG, SVG and PDF.

A builder takes the study's Findings and returns a Figure, or None where the study has nothing for it.
The same ledger gives the same picture: nothing is drawn at random, and files carry no date. Only names in letters that
DejaVu lacks (Chinese, Japanese, Korean, Indic, Thai, most emoji) look as the fonts installed on a machine have them.
"""

from analysis.figures import as_delivered  # noqa: F401  it imports matplotlib, before any other module does
