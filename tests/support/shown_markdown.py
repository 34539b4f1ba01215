"""What a reader of Markdown sees."""

import re

from markdown_it import MarkdownIt


def html(markdown: str) -> str:
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def shown(markdown: str) -> list[str]:
    """The text of every table cell, as a reader sees it."""
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html(markdown))
    assert not any("<" in cell for cell in cells), cells
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        cells = [cell.replace(entity, character) for cell in cells]
    return cells
