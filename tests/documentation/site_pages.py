"""What is in a built site: its pages' links, pictures, scripts and anchors."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
    "object": "data",
    "use": "href",
}
"""Elements, each with the attribute that names what a browser fetches for it unasked."""


@dataclass
class SitePage(HTMLParser):
    """A page of HTML. links: where its links lead. loaded: what a browser fetches for it. anchors: places in it."""

    path: Path
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADED.get(tag) in values:
            self.loaded.append(values[LOADED[tag]])


def is_elsewhere(address: str) -> bool:
    """Whether an address is on another host, or no file at all."""
    parts = urlsplit(address)
    return bool(parts.scheme or parts.netloc)


def target(page: Path, address: str) -> tuple[Path, str]:
    """The file that a local address on a page leads to, and the place in it."""
    parts = urlsplit(address)
    return ((page.parent / unquote(parts.path)).resolve() if parts.path else page), unquote(parts.fragment)


def reachable(start: Path) -> Iterator[SitePage | Path]:
    """Everything that links lead to from a page, itself first: pages, and other files by their path."""
    seen, waiting = {start.resolve()}, [start.resolve()]
    while waiting:
        path = waiting.pop()
        if path.suffix != ".html" or not path.exists():
            yield path
            continue
        page = SitePage(path)
        yield page
        for address in page.links:
            if not is_elsewhere(address) and (found := target(path, address)[0]) not in seen:
                seen.add(found)
                waiting.append(found)
