"""`~` in every path that a person gives, and machines that know of no home folder."""

import argparse
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmarks.cli
from experiments.images.tasks.cache import cache_folder
from experiments.machine.home import user_path
from experiments.terminal import cli
from experiments.terminal.cli import main
from ledger.errors import UserError
from tests.support.tiny_study import write_sweep


@pytest.fixture
def home(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = here.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def homeless(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system does not know, as a container has one."""

    def unknown(user: object) -> None:
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "STN_BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def path_options() -> Iterator[tuple[str, str]]:
    """Command and option of every path on a command line; a name without -- is a place."""
    commands = cli.command_line().commands | benchmarks.cli.command_line().commands
    for name, parser in commands.items():
        for action in parser._actions:
            kind = getattr(action, "_typehint", None) or action.type
            if not isinstance(action, argparse._HelpAction) and "Path" in str(kind):
                yield name, action.option_strings[0] if action.option_strings else action.dest


UNKNOWN = "~nobodyknown/x"
PLACES = {"path": [UNKNOWN], "ledger": [UNKNOWN], "from": [UNKNOWN], "images": ["abc", UNKNOWN]}
NEEDED = {
    "probe": ["images"],
    "accuracy": ["images"],
    "export": ["abc"],
    "predict": ["abc", "a.png"],
    "merge": ["other"],
    "board": ["people"],
}
"""By command, what must stand before an option."""


@pytest.mark.parametrize(("command", "option"), list(path_options()))
def test_every_path_is_refused_whose_home_is_not_known(command, option, here, capsys):
    given = PLACES.get(option) or [*NEEDED.get(command, []), f"{option}={UNKNOWN}"]
    program = cli if command in cli.command_line().commands else benchmarks.cli
    assert program.main([command, *given]) == 2
    name = option.lstrip("-")
    said = f"{name}: '~nobodyknown/x': no home folder is known for ~nobodyknown; write the path from / on"
    assert capsys.readouterr().err == f"error: {said}\n"
    assert list(here.iterdir()) == []


def test_these_are_all_the_paths_there_are() -> None:
    found = {option for _, option in path_options()}
    assert found == {
        "--sweep",
        "--data",
        "--runs",
        "--reports",
        "--claims",
        "--out",
        "--into",
        "from",
        "--html",
        "path",
        "ledger",
        "images",
    }


@pytest.mark.long
def test_a_study_whose_paths_are_all_at_home(home: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(home)
    options = ["--sweep=~/sweep.yaml", "--budget=smoke", "--runs=~/runs"]
    assert main(["sweep", *options, "--reports=~/reports", "--jobs=1"]) == 0
    assert {path.name for path in home.iterdir()} >= {"sweep.yaml", "runs", "reports"}
    assert main(["run", *options, "--variant=cnn"]) == 0
    assert main(["status", "--runs=~/runs"]) == 0
    assert "8 finished runs" in capsys.readouterr().out
    assert list(here.iterdir()) == []


def test_a_file_that_is_called_so_is_taken(here: Path) -> None:
    (here / "~plot.png").touch()
    assert user_path("~plot.png", "images") == Path("~plot.png")
    assert user_path("", "images") == Path()


@pytest.mark.parametrize("name", ["STN_BENCH_CACHE", "XDG_CACHE_HOME"])
def test_the_cache_may_be_at_home(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STN_BENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == home / ".cache/stn-bench"
    monkeypatch.setenv(name, "~/own")
    assert cache_folder() == (home / "own" if name == "STN_BENCH_CACHE" else home / "own/stn-bench")
    monkeypatch.setenv(name, "~nobodyknown/own")
    with pytest.raises(UserError, match=f"^{name}: '~nobodyknown/own': no home folder is known for ~nobodyknown;"):
        cache_folder()


def test_without_a_home_folder_the_cache_is_asked_for(homeless, here, monkeypatch, capsys):
    write_sweep(here)
    for command in (["plan", "--budget=smoke"], ["sweep", "--budget=smoke"], ["run", "--budget=smoke"], ["probe", "d"]):
        assert main(command) == 2
        said = "error: no home folder: set STN_BENCH_CACHE to a folder for decoded images\n"
        assert capsys.readouterr().err == said
    assert main(["plan", "--budget=smoke", "--runs=~/runs"]) == 2
    assert "no home folder is known for ~;" in capsys.readouterr().err
    monkeypatch.setenv("STN_BENCH_CACHE", str(here / "cache"))
    assert main(["plan", "--budget=smoke"]) == 0
    assert os.listdir(here / "cache")
