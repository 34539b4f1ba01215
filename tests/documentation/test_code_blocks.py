"""Every fenced block of the documentation does what its page says, in a copy of the tree."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documentation.pages import blocks_of, find_blocks, pages
from tests.documentation.walk import Walk, check_form, is_shown, page_before, walk
from tests.support.image_folders import save
from tests.support.project import ROOT

pytestmark = pytest.mark.documentation

STARTS_SERVERS = "starts servers; the tests run these commands in network namespaces"
NOT_RUN = {
    "README.md": {"make sweep BUDGET=smoke  # a first try": "a quarter of an hour, and all tests"},
    "CONTRIBUTING.md": {"make setup": "installs, and runs all tests"},
    "docs/cluster.md": {
        "ray get-auth-token --generate": STARTS_SERVERS,
        "ray start --address=HEAD": STARTS_SERVERS,
        "RAY_ADDRESS=HEAD:6379 make sweep": "wants the cluster from above",
        "sbatch docs/slurm/sweep.sbatch": "needs Slurm",
    },
    "docs/index.md": {"make probe": "ten minutes"},
    "docs/ledger.md": {".venv/bin/stn-bench merge": "it needs the ledgers of two machines"},
    "docs/probe.md": {"make probe": "ten minutes"},
    "docs/results.md": {".venv/bin/stn-bench merge docs/results": "hours"},
    "docs/wandb.md": {
        "make sync": "needs a W&B account",
        ".venv/bin/python -m pip install -e '.[trackio]'": "changes what is installed",
    },
}
"""The beginnings of blocks that no test runs. A new one is a decision: can a small form of it not be run?"""

SMALLER = {
    "docs/protocol.md": ["make plan SWEEP=confirm.yaml", "make plan"],
    "docs/variants.md": [".venv/bin/stn-bench run"],
}
"""Commands that are run with arguments that make them small."""

NUM_TRAIN, NUM_TEST = 220, 60
"""How many images a reader has in path/to/images."""

Follow = Callable[[str], Walk]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A reader's own images: sprites of four classes, as PNG files."""
    from experiments.images.tasks import load_task

    root = tmp_path_factory.mktemp("images")
    task = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)
    for part, of_part, num in (("train", task.train, NUM_TRAIN), ("test", task.test, NUM_TEST)):
        few = [i for i, label in enumerate(of_part.labels_N) if label < 4][:num]
        for i in few:
            save(root / part / task.classes[of_part.labels_N[i]] / f"{i}.png", of_part.pixels_NHWC[i])
    return root


@pytest.fixture(scope="session")
def follow(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Follow:
    """Follows a page, once, after the page whose ledger it starts with."""
    done: dict[str, Walk] = {}

    def follow(page: str) -> Walk:
        if page not in done:
            before = page_before(page)
            first = follow(before) if before else None
            done[page] = walk(page, tmp_path_factory.mktemp("walk"), first, images)
        return done[page]

    return follow


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", pages())
def test_a_page_does_what_it_says(page: str, follow: Follow) -> None:
    follow(page)


@pytest.mark.timeout(600)
def test_the_policy_of_the_readme_keeps_the_contract(follow: Follow) -> None:
    walked = follow("README.md")
    command = [f"{walked.tree}/.venv/bin/pytest", "-n", "0", "-q", "tests/baselines/test_policies.py", "-k", "darken"]
    done = subprocess.run(command, cwd=walked.tree, env=walked.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_what_is_not_run_or_made_smaller_is_known() -> None:
    every = [block for page in pages() for block in blocks_of(page)]
    not_run = [block for block in every if block.marker == "not run"]
    for block in not_run:
        known = NOT_RUN.get(block.page, {})
        reasons = [reason for begins, reason in known.items() if _starts(block.text, begins)]
        assert reasons == [block.argument], f"{block} is not run: {block.argument}"
    assert len(not_run) == sum(map(len, NOT_RUN.values()))
    smaller = [block for block in every if block.marker == "run with"]
    for block in smaller:
        assert any(_starts(block.text, begins) for begins in SMALLER.get(block.page, [])), str(block)
    assert len(smaller) == sum(map(len, SMALLER.values()))


def _starts(text: str, begins: str) -> bool:
    return " ".join(text.split()).startswith(" ".join(begins.split()))


@pytest.fixture
def walk_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Follows a page of this text."""
    (tmp_path / "images").mkdir()

    def walk_text(text: str) -> Walk:
        monkeypatch.setattr("tests.documentation.walk.blocks_of", lambda page: find_blocks(text, page))
        monkeypatch.setattr("tests.documentation.walk.ledger_of", lambda page: None)
        return walk("page.md", tmp_path / "walk", None, tmp_path / "images")

    return walk_text


def test_finder_finds_blocks_with_their_markers() -> None:
    text = (
        "a\n\n```sh\nls\n```\n\n<!-- run with: -a -->\n```sh\nls\n```\n\n"
        '1. b\n\n    ```yaml title="c.yaml"\n    d: 1\n    ```\n\n<!-- not run: no GPU -->\n\n```python\ne\n```\n'
    )
    found = find_blocks(text, "page.md")
    assert [(each.language, each.command, each.marker, each.title, each.line) for each in found] == [
        ("sh", "ls\n", "", "", 3),
        ("sh", "ls -a", "run with", "", 8),
        ("yaml", "d: 1\n", "", "c.yaml", 14),
        ("python", "e\n", "not run", "", 20),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```\na\n```", "page.md:1: '' is none of sh"),
        ("```console\na\n```", "page.md:1: 'console' is none of sh"),
        ("```sh hl_lines=1\na\n```", "'hl_lines=1' is not a title"),
        ("<!-- never run: b -->\n```sh\na\n```", "page.md:2: the marker 'never run' is none of"),
        ("<!-- not run -->\n```sh\na\n```", "'not run' has no argument"),
        ('```sh title="../a"\na\n```', "leaves the tree"),
    ],
)
def test_what_it_cannot_make_sense_of_is_an_error(text: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        find_blocks(text, "page.md")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\nfalse\ntrue\n```", "page.md:1 ends with status 1"),
        ("```sh\necho $nothing\n```", "nothing: unbound variable"),
        ("```python\na = 1\n```\n\n```python\nassert a == 2\n```", "(?s)page.md:5 raises.*AssertionError"),
        ("```sh\necho one two\n```\n\n<!-- output -->\n```text\ntwo one\n```", "page.md:6 is not what was printed"),
        ("```yaml\nclaims: {alfa: 1}\n```", "page.md:1 ends with status 1"),
        ("<!-- not run: why -->\n```sh\nif\n```", "page.md:2 is not shell"),
    ],
)
def test_a_page_that_is_wrong_is_found_out(text: str, message: str, walk_text: Follow) -> None:
    with pytest.raises(AssertionError, match=message):
        walk_text(text)


def test_blocks_share_the_copy_and_never_touch_the_tree(walk_text: Follow) -> None:
    text = (
        "```sh\necho 1 > made; rm -r docs; rm -r .venv/bin\n```\n\n"
        '```python title="new/module.py"\nvalue = 2\n```\n\n'
        "```sh\ncat made new/module.py; test ! -e docs\n```\n\n<!-- output -->\n```text\n1\n...\n= 2\n```\n"
    )
    walk_text(text)
    assert (ROOT / "docs/index.md").exists() and Path(sys.executable).exists()


def test_output_is_compared_piece_by_piece_and_in_order() -> None:
    printed = "Study a\n  1 s\nRuns   3 of\n 3\nend"
    assert is_shown("Study a\n...\nRuns 3 of 3\n...\n", printed)
    assert is_shown("3 of\n3\nend", printed)
    assert not is_shown("Study a\nRuns", printed)
    assert not is_shown("Runs\n...\nStudy a", printed)


def test_what_is_not_run_has_its_language_s_form() -> None:
    for good in ("```json\n[1]\n```", "```text\n[1\n```", "```yaml\na: 1\n---\nb: 2\n```"):
        check_form(find_blocks(good, "page.md")[0])
    for bad in ("```json\n[1\n```", "```yaml\na: [1\n```", "```python\nf(\n```"):
        with pytest.raises(Exception, match=r"line|delimiter|expected|closed"):
            check_form(find_blocks(bad, "page.md")[0])
