"""Pages of the site that do not lie in docs/: those of the tree's root, and tables that the program wrote.

Pages of the root stay where a code host looks for them, and their links hold in both places.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ledger.scores import RESULT

ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
FRONT = {"README.md": "index.md"}
"""Pages of the root that have another page of the site in their place."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    root = Path(config.config_file_path).parent
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, content=(root / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text with links that hold in the site."""
    if page.file.src_uri.startswith("results/"):
        # Wide tables need the room, and a search should find what was written about them, not the keys of runs.
        page.meta.update(hide=["toc"], search={"exclude": True})
    if page.file.src_uri == "ledger.md":
        rows = "".join(f"| `{score.name}` | {score.form} | {score.meaning} |\n" for score in RESULT)
        markdown = markdown.replace("<!-- scores -->", f"\n| number | form | meaning |\n|---|---|---|\n{rows}")
    if page.file.src_uri in ROOT_PAGES:
        markdown = re.sub(r"\]\(docs/", "](", markdown)
    names = "|".join(map(re.escape, (*ROOT_PAGES, *FRONT)))
    return re.sub(rf"\]\((?:\.\./)?({names})\b", lambda found: f"]({FRONT.get(found[1], found[1])}", markdown)
