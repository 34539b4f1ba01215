"""The pages of the documentation and the fenced blocks in them.

A block's fence names its language, and may name a file: ```python title="baselines/policies/stretch.py". A comment just
above it, which no reader sees, says what is special about it:

    <!-- not run: REASON -->     it cannot be run here
    <!-- run with: ARGUMENTS --> its one command gets these behind it, so that it is small
    <!-- output -->              what the block before it printed, where `...` stands for anything
"""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.support.project import ROOT

LANGUAGES = ("sh", "python", "yaml", "json", "text")
MARKERS = ("not run", "run with", "output")
_COMMENT = re.compile(r"<!-- (?P<kind>[a-z ]+?)(?:: (?P<argument>.+?))? -->", re.DOTALL)
_LEDGER = re.compile(r"<!-- starts with the ledger of (?P<page>[\w.-]+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block. page, line: where its fence is. title: a path in the tree, or "". marker, argument: or ""."""

    page: str
    line: int
    language: str
    title: str
    text: str
    marker: str = ""
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]

    @property
    def command(self) -> str:
        """What is run of a block of shell: its text, smaller if its marker says so."""
        if self.marker != "run with":
            return self.text
        (line,) = self.text.splitlines()
        return f"{line} {self.argument}"


def pages() -> list[str]:
    """Every page that people write, with its path in the tree; those that the program writes are left out."""
    return ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def blocks_of(page: str) -> list[Block]:
    return find_blocks(text_of(page), page)


def find_blocks(text: str, page: str) -> list[Block]:
    """The blocks in their order. Raises AssertionError for one that no reader, or no test, could make sense of."""
    found = []
    above = ""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "fence":
            assert token.map
            language, _, rest = token.info.strip().partition(" ")
            title = re.fullmatch(r'title="([^"]+)"', rest)
            at = f"{page}:{token.map[0] + 1}"
            assert language in LANGUAGES, f"{at}: {language!r} is none of {', '.join(LANGUAGES)}"
            assert title or not rest, f"{at}: {rest!r} is not a title"
            marker, argument = _marker(above, at)
            name = title[1] if title else ""
            assert not Path(name).is_absolute() and ".." not in Path(name).parts, f"{at}: {name} leaves the tree"
            found.append(Block(page, token.map[0] + 1, language, name, token.content, marker, argument))
        above = token.content if token.type == "html_block" else ""
    return found


def _marker(comment: str, at: str) -> tuple[str, str]:
    """Kind and argument of a comment above a block; empty where there is none."""
    found = _COMMENT.search(comment)
    if not found or _LEDGER.search(comment):
        return "", ""
    kind, argument = found["kind"], found["argument"] or ""
    assert kind in MARKERS, f"{at}: the marker {kind!r} is none of {', '.join(MARKERS)}"
    assert bool(argument) == (kind != "output"), f"{at}: {kind!r} has {'no' if not argument else 'an'} argument"
    return kind, argument


def ledger_of(page: str) -> str | None:
    """The page whose ledger and reports a reader of this one has already; None: an empty tree."""
    found = _LEDGER.search(text_of(page))
    return f"docs/{found['page']}" if found else None
