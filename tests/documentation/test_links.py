"""Links of the documents as a code host shows them: to files and headings of the tree, and to other hosts."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt

from tests.documentation.pages import pages
from tests.support.project import ROOT

pytestmark = pytest.mark.documentation

HOSTS = {"docs.ray.io", "huggingface.co", "keepachangelog.com", "semver.org"}
"""Other hosts that documents lead to; they cannot be fetched here, so a new one is a decision."""

every_document = pytest.mark.parametrize("document", [*pages(), "CHANGELOG.md"])


def links_of(text: str) -> Iterator[str]:
    """Where links and pictures lead, and addresses that are written out."""
    for token in MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(text):
        for child in token.children or ():
            for name in ("href", "src"):
                if name in child.attrs:
                    yield str(child.attrs[name])
            if child.type == "text":
                yield from re.findall(r"https?://[^\s)>,]+", child.content)


def anchors_of(text: str) -> set[str]:
    """The anchors of its headings, as code hosts make them."""
    tokens = MarkdownIt("commonmark").parse(text)
    headings = [tokens[i + 1].children or [] for i, token in enumerate(tokens) if token.type == "heading_open"]
    titles = ["".join(child.content for child in heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_document
def test_links_in_the_tree_lead_to_what_is_there(document: str) -> None:
    path = ROOT / document
    for link in links_of(path.read_text()):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        assert not parts.path.startswith("/"), f"{document}: {link} is absolute"
        file = (path.parent / parts.path).resolve() if parts.path else path
        assert file.exists(), f"{document}: {link}"
        assert file.is_relative_to(ROOT), f"{document}: {link} leaves the tree"
        if parts.fragment:
            assert parts.fragment in anchors_of(file.read_text()), f"{document}: {link}"


@every_document
def test_links_to_other_hosts_are_safe_and_known(document: str) -> None:
    for link in links_of((ROOT / document).read_text()):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            assert (parts.scheme, parts.hostname in HOSTS) == ("https", True), f"{document}: {link}"


def test_the_readers_of_links_and_headings_see_them_all(tmp_path: Path) -> None:
    text = "# A `b`: *c*, d!\n\n[e](f.md#g) and ![h](i.png)\n\n| j |\n|---|\n| [k](http://l) |\n\nhttps://m.org/n.\n"
    assert list(links_of(text)) == ["f.md#g", "i.png", "http://l", "https://m.org/n."]
    assert anchors_of(text) == {"a-b-c-d"}
