"""A page as a reader follows it who types every block, in order, into a fresh copy of the tree."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import yaml

from tests.documentation.pages import Block, blocks_of, ledger_of
from tests.support.project import ROOT

PATIENCE_S = 900
INSTALLED = (".installed", ".cluster", ".docs", ".notebook")
"""Marks by which the Makefile knows that nothing is to be installed."""
NO_NETWORK = "http://127.0.0.1:9"

_SESSION = """
import json, sys
names = {"__name__": "__main__"}
for line in sys.stdin:
    text, name = json.loads(line)
    exec(compile(text, name, "exec"), names)
    print("\\0", flush=True)
"""

_SCRIPT = """#!{tree}/.venv/bin/python
import sys
sys.path.insert(0, "{tree}")
from experiments.__main__ import main
if __name__ == "__main__":
    main()
"""

_LOAD_STUDY = """
import sys
from pathlib import Path
from experiments.study.study import load_study
load_study(Path(sys.argv[1]), "smoke")  # checks every budget
"""


def copy_tree(to: Path) -> None:
    """What git knows of the tree, as it is now, with this interpreter's environment as its .venv, into a new folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip(f"git cannot list the files of the tree: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():  # not one that was deleted and not yet committed
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
    environment = to / ".venv"
    (environment / "bin").mkdir(parents=True)
    for entry in (*Path(sys.prefix).iterdir(), *Path(sys.prefix, "bin").iterdir()):
        if entry.name not in (*INSTALLED, "bin", "stn-bench"):
            (environment / entry.relative_to(sys.prefix)).symlink_to(entry)
    for name in INSTALLED:
        (environment / name).touch()  # after pyproject.toml, which make looks at
    script = environment / "bin/stn-bench"  # the one that is installed is of the tree that this is a copy of
    script.write_text(_SCRIPT.format(tree=to))
    script.chmod(0o755)


class Walk:
    """A page's blocks, run in `tree`."""

    def __init__(self, page: str, tree: Path, home: Path) -> None:
        self.page, self.tree = page, tree
        unwanted = ("PYTEST_", "MAKE", "MFLAGS", "PYTHONPATH", "VIRTUAL_ENV")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        self.environment |= {
            "PATH": f"{tree}/.venv/bin:{os.environ['PATH']}",
            "HOME": str(home),
            "COLUMNS": "100",
            "http_proxy": NO_NETWORK, "https_proxy": NO_NETWORK, "HTTP_PROXY": NO_NETWORK, "HTTPS_PROXY": NO_NETWORK,
        }  # fmt: skip
        self.printed = ""
        self._python: subprocess.Popen[str] | None = None

    def go(self) -> None:
        """Raises AssertionError at the first block that does not do what its language and its marker promise."""
        try:
            for block in blocks_of(self.page):
                self.do(block)
        finally:
            if self._python is not None:
                self._python.kill()
                self._python.communicate()

    def do(self, block: Block) -> None:
        if block.title:
            path = self.tree / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        if block.marker == "not run":
            check_form(block)
            return
        match block.language:
            case "sh" if not block.title:
                self.printed = self.run(["bash", "-eu", "-c", block.command], block)
            case "python" if not block.title:
                self.printed = self.continue_python(block)
            case "yaml":
                self.load_study(block)
            case _:
                check_form(block)
                if block.marker == "output":
                    assert is_shown(block.text, self.printed), f"{block} is not what was printed:\n{self.printed}"

    def run(self, command: list[str], block: Block) -> str:
        """What a command printed, errors among it."""
        done = subprocess.run(
            command, cwd=self.tree, env=self.environment, timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{block} ends with status {done.returncode}:\n{done.stdout}"
        return done.stdout

    def continue_python(self, block: Block) -> str:
        """What a block of Python printed; a page's blocks share one process, as in a notebook."""
        if self._python is None:
            self._python = subprocess.Popen(
                [self.tree / ".venv/bin/python", "-c", _SESSION], cwd=self.tree, env=self.environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        assert self._python.stdin and self._python.stdout
        self._python.stdin.write(json.dumps([block.text, str(block)]) + "\n")
        self._python.stdin.flush()
        printed, ended = _until_done(self._python.stdout)
        assert not ended, f"{block} raises:\n{printed}"
        return printed

    def load_study(self, block: Block) -> None:
        """A study's file, or a part of one, which takes the place of that part in sweep.yaml."""
        path = self.tree / (block.title or "sweep-with-a-part.yaml")
        if not block.title:
            whole = yaml.safe_load((self.tree / "sweep.yaml").read_text())
            path.write_text(yaml.safe_dump(whole | yaml.safe_load(block.text), sort_keys=False))
        self.run([f"{self.tree}/.venv/bin/python", "-c", _LOAD_STUDY, str(path)], block)


def walk(page: str, folder: Path, before: Walk | None, images: Path) -> Walk:
    """Follow a page in a new folder.

    before: the finished walk whose ledger and reports the page starts with. images: what its path/to/images is.
    """
    tree, home = folder / "tree", folder / "home"
    home.mkdir(parents=True)
    tree.mkdir()
    copy_tree(tree)
    shutil.copytree(images, tree / "path/to/images")
    if before is not None:
        for name in ("runs", "reports"):
            shutil.copytree(before.tree / name, tree / name)
    walked = Walk(page, tree, home)
    walked.go()
    return walked


def page_before(page: str) -> str | None:
    """The page that has to be followed first."""
    before = ledger_of(page)
    assert before != page
    return before


def check_form(block: Block) -> None:
    """Raises AssertionError for a block that is not even of its language."""
    match block.language:
        case "sh":
            done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True)
            assert done.returncode == 0, f"{block} is not shell: {done.stderr}"
        case "python":
            compile(block.text, str(block), "exec")
        case "json":
            json.loads(block.text)
        case "yaml":
            list(yaml.safe_load_all(block.text))


def is_shown(text: str, printed: str) -> bool:
    """Whether the pieces of a text, between `...`, are all in what was printed, in order; spaces aside."""
    pieces = (" ".join(piece.split()) for piece in text.split("..."))
    rest = " ".join(printed.split())
    for piece in filter(None, pieces):
        _, found, rest = rest.partition(piece)
        if not found:
            return False
    return True


def _until_done(stream: IO[str]) -> tuple[str, bool]:
    """What is printed up to a block's end, and whether the process ended there."""
    printed: list[str] = []
    for line in stream:
        if line == "\0\n":
            return "".join(printed), False
        printed.append(line)
    return "".join(printed), True
