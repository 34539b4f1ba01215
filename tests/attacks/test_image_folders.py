"""Folders of images with odd names, pipes, devices and links of all kinds: read or refused in a line, never hung."""

import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from experiments.images.tasks import load_task
from experiments.images.tasks.image_files.walk import MAX_DEPTH, MAX_VISITS
from tests.support.image_folders import load, make_classes, make_parts, pixels_of, refusal, save


def in_time(action: Callable[[], None]) -> None:
    """Run it, for 30 s at most."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name(".pipe"))
    path.symlink_to(".pipe")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_a_terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("make", [pipe, link_to_a_pipe, link_to_a_device, link_to_a_terminal, listening])
def test_what_is_no_file_is_left_out_and_not_waited_for(make: Callable[[Path], None], tmp_path: Path) -> None:
    root = make_parts(tmp_path / "images")
    expected = load(root, tmp_path / "cache").content_hash
    make(root / "train/ant/x.png")
    assert not stat.S_ISREG((root / "train/ant/x.png").stat().st_mode)
    found: list[str] = []
    try:
        in_time(lambda: found.append(load(root, tmp_path / "other").content_hash))
    finally:
        for path in (root / "train/ant").iterdir():
            if stat.S_ISFIFO(path.stat().st_mode):  # whoever waits for it after all is let go
                os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    assert found == [expected]


NAMES = ["a\nb.png", "\x1b[2J\x1b]0;x\x07.png", "\u202egnp.exe.png", "-rf.png", "$(touch x).png", "'\".png", " .png"]


def test_odd_names_of_images_do_no_harm(tmp_path: Path) -> None:
    root = make_parts(tmp_path / "images")
    odd = [os.fsencode(name) for name in NAMES] + [b"\xff\xfe.png", b"\xed\xa0\x80.png"]
    for i, name in enumerate(odd):
        Image.fromarray(pixels_of(900 + i)).save(root / "train/bee/new.png")
        os.rename(root / "train/bee/new.png", os.fsencode(root / "train/bee") + b"/" + name)
    task = load(root, tmp_path / "cache")
    assert task.train.labels_N.tolist() == [0] * 3 + [1] * (3 + len(odd)) + [2] * 3
    for name in odd:
        (path,) = [path for path in (root / "train/bee").iterdir() if os.fsencode(path.name) == name]
        path.write_bytes(b"")
        said = refusal(root, tmp_path / "none")
        assert said.isprintable() and "not an image" in said
        path.unlink()


@pytest.mark.parametrize(
    "name",
    [b"a\nb", b"a\rb", b"\x1b[31m", b"a\tb", b"\x00"[1:] + b"\xff", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xc2\x9b31m"],
)
def test_a_class_whose_name_is_no_text_is_refused(name: bytes, tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images")
    os.rename(root / "bee", os.fsencode(root) + b"/" + name)
    said = refusal(root, tmp_path / "cache")
    assert said.isprintable() and said.endswith("has a name that is not valid text; rename its folder")


def test_a_class_may_be_called_anything_that_is_text(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images")
    names = ("a b", "Überraschung", "猫", "می‌خواهم", "👩‍🌾")
    for name in names:
        os.symlink(root / "bee", root / name)
    assert set(names) <= set(load(root, tmp_path / "cache").classes)


@pytest.mark.parametrize("name", [b"\x1b[2Jx", b"a\nb", b"\xff"])
def test_the_folder_s_own_name_cannot_reach_the_terminal(name: bytes, tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    os.rename(root, odd)
    lines: list[str] = []
    task = load(odd, tmp_path / "cache", say=lines.append)
    assert task.label.isprintable() and "?" in task.label
    assert lines and all(line.isprintable() for line in lines)
    (Path(odd) / "bee" / "03.png").write_bytes(b"")
    assert refusal(odd, tmp_path / "other").isprintable()


def test_links_out_of_the_folder_are_followed_and_counted(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images")
    away = make_classes(tmp_path / "away", 7)
    (root / "dog").symlink_to(away / "cat")  # a whole class
    (root / "ant/x.png").symlink_to(away / "ant/00.png")
    (root / "ant/deep").symlink_to("../../away/bee")
    (root / "ant/y.png").symlink_to("01.png")  # within
    (root / "bee/near").symlink_to("../cat")
    task = load(root, tmp_path / "cache")
    assert len(task.train) + len(task.test) == 30 + 7 + 1 + 7 + 1 + 10
    said = ("Links", "15 of 56 images are links to files outside the folder")
    assert said in task.reading.facts
    (tmp_path / "way in").symlink_to(root)  # how the folder is reached is not what is in it
    assert said in load(tmp_path / "way in", tmp_path / "other").reading.facts
    assert said in load(root, tmp_path / "cache").reading.facts  # from the cache as well
    for path in (root / "dog", root / "ant/x.png", root / "ant/deep"):
        path.unlink()
    assert "Links" not in dict(load(root, tmp_path / "cache").reading.facts)


@pytest.mark.parametrize("name", ["bee/x.png", "bee/x", "x"])
def test_links_in_a_circle_are_named(name: str, tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images")
    (root / name).symlink_to(Path(name).name)
    said = refusal(root, tmp_path / "cache")
    assert Path(name).name in said and "symbolic links" in said
    (tmp_path / "self").symlink_to("self")
    assert "does not exist" in refusal(tmp_path / "self", tmp_path / "cache")


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    """Twelve of them lead through each other in half a thousand million ways."""
    root = make_classes(tmp_path / "images")
    for i in range(12):
        (root / f"bee/{i}").mkdir()
        for j in range(12):
            (root / f"bee/{i}/{j}").symlink_to(root / f"bee/{j}")
    found: list[str] = []
    in_time(lambda: found.append(refusal(root, tmp_path / "cache")))
    assert "lead on without end" in found[0]


def test_very_deep_folders_end(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images")
    here = os.open(root / "bee", os.O_RDONLY)
    for _ in range(3 * MAX_DEPTH):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert "lead on without end" in refusal(root, tmp_path / "cache")


def test_many_links_to_one_folder_of_images_are_no_circle(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images")
    for i in range(MAX_VISITS):
        (root / f"bee/{i}").symlink_to(root / "cat")
    task = load(root, tmp_path / "cache")
    assert len(task.train) + len(task.test) == 30 + 10 * MAX_VISITS


def test_the_task_of_a_folder_says_nothing_of_a_link_s_target(tmp_path: Path) -> None:
    """Where a link leads is nobody's business but its owner's: not in messages, nor in the cache."""
    root, away = make_classes(tmp_path / "images"), make_classes(tmp_path / "secret")
    (root / "dog").symlink_to(away / "cat")
    (away / "cat/00.png").write_bytes(b"")
    assert "secret" not in refusal(root, tmp_path / "cache")
    save(away / "cat/00.png", pixels_of(1))
    lines: list[str] = []
    task = load_task(f"folder:{root}", image_px=16, cache=tmp_path / "cache", say=lines.append)
    assert not any("secret" in line for line in (*lines, str(task.reading)))
