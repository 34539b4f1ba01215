"""`board`: which files and folders are somebody's ledger, and what becomes of those that are none."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from experiments.terminal.cli import main
from tests.analysis.test_board import ALICE, BOB, refusal, text_of
from tests.support.command_line import contents
from tests.support.people import write_person


@pytest.fixture
def people(tmp_path: Path) -> Path:
    write_person(tmp_path / "people/alice", ALICE)
    write_person(tmp_path / "people/bob", BOB)
    return tmp_path / "people"


def named(page: str, heading: str) -> dict[str, str]:
    """What stands below a heading: names and reasons."""
    return dict(
        re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page.partition(f"<h2>{heading}</h2>")[2].partition("<h2>")[0])
    )


def test_an_archive_beside_its_folder_does_not_count_twice(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", str(people / "alice"), "--out", str(people / "alice.tar.xz")]) == 0
    assert main(["board", str(people)]) == 1
    assert "alice.tar.xz is refused: alice is there twice; keep one" in capsys.readouterr().out
    page = text_of(people)
    assert named(page, "Refused") == {"alice.tar.xz": "alice is there twice; keep one"}
    assert "Nothing of what is named here is on the board; why stands beside it." in page


def test_what_looks_like_an_archive_and_is_none_of_ours_is_named(people: Path) -> None:
    for name in ("carol.zip", "dave.tar.gz", "notes.txt"):
        (people / name).touch()
    (people / "erin.tar.xz").symlink_to("gone")
    assert main(["board", str(people)]) == 0
    no_such = "an archive of a ledger is called NAME.tar.xz"
    told = {"carol.zip": no_such, "dave.tar.gz": no_such, "erin.tar.xz": "it is a link to something that is not there"}
    assert named(text_of(people), "Left out") == told


def test_only_archives_of_another_kind_are_said_to_be_that(tmp_path: Path, capsys) -> None:
    (tmp_path / "carol.zip").touch()
    assert refusal(tmp_path, capsys).endswith(
        "as it was written: carol.zip: an archive of a ledger is called NAME.tar.xz"
    )


def test_one_folder_that_cannot_be_read_ends_nothing(people: Path) -> None:
    was_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        os.chmod(folder, 0o755)
        here = Path(shutil.copytree(people, Path(folder) / "people"))
        for path in (here, *here.rglob("*")):
            path.chmod(0o755)
        (here / "carol").mkdir(mode=0)
        try:
            if was_root:
                os.seteuid(65534)
            out = Path(tempfile.mkdtemp()) / "board.html"
            status = main(["board", str(here), "--out", str(out)])
        finally:
            if was_root:
                os.seteuid(0)
            (here / "carol").chmod(0o755)
    assert status == 1 and named(text_of(out.parent), "Refused") == {"carol": "cannot be read: Permission denied"}
    shutil.rmtree(out.parent)


def test_checkpoints_that_a_killed_run_left_refuse_nobody(people: Path) -> None:
    left = people / "bob/running/0123456789abcdef" / f"epoch-1-{64 * 'a'}.safetensors"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"cut short")
    assert main(["verify", str(people / "bob")]) == 1
    assert main(["board", str(people)]) == 0


def test_a_name_that_is_no_page_is_refused_before_anything_is_read(people: Path, capsys) -> None:
    (people / "carol.tar.xz").write_bytes(b"somebody's")
    before = contents(people)
    assert main(["board", str(people), "--out", str(people / "carol.tar.xz")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].endswith("is not what a page is called: give a file whose name ends in .html")
    assert contents(people) == before
