"""The report of a study: one HTML file that needs no network, no server and, for reading, no script.

What is in it: the answer in words, tables that sort and filter, all figures, how it was done, how to do it again.
The same ledger gives the same bytes. `template.html` is its form within `frame.html`, `style.css` its looks,
`script.js` and `curves.js` what moves.
"""

from analysis.report.page import NAME, is_made_from, report_html, write_report

__all__ = ["NAME", "is_made_from", "report_html", "write_report"]
