"""Runs made before code changed: plan names them and why, a sweep keeps them or makes them again, tables say so."""

import cProfile
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.code import code_notes
from analysis.records import read_study
from experiments.sweep.stale import find_stale, remove_stale
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import main
from experiments.terminal.commands.plan import notes
from experiments.terminal.commands.sweep import ROWS_STAY
from ledger.audit import audit
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.faults.damage import edit, renew_sums
from tests.support.command_line import contents, run
from tests.support.tiny_study import NUM_RUNS, STUDY, HereAndNow, plan_of, sweep_here, write_sweep

AFFINE = "baselines/policies/affine.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder in which a study was carried out. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    sweep_here(folder, HereAndNow())
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "study")


def replayed(folder: Path) -> Sweep:
    under_way = Sweep(plan_of(folder), Ledger(folder / "runs"), store=False)
    under_way.replay()
    return under_way


def made_by(folder: Path, key: str, file: str | None, hashed: str = "0" * 12) -> None:
    """Have the run say that it was made when that file was another one; with no file, that it say nothing."""

    def change(cost: dict[str, Any]) -> None:
        if file is None:
            del cost["code"]
            return
        place, _, name = file.rpartition("/")
        files = dict(each.split(":") for each in cost["code"][place].split())
        cost["code"][place] = " ".join(f"{each}:{known}" for each, known in {**files, name: hashed}.items())

    edit(folder / "runs/runs" / key / "cost.json", change)
    renew_sums(folder / "runs/runs" / key)


@pytest.mark.long
def test_none_is_stale_where_no_code_changed(made: Path) -> None:
    stale = find_stale(replayed(made))
    assert (stale.keys, stale.num_unknown, stale.text()) == ([], 0, "")
    assert not list(code_notes(read_study(made / "runs", STUDY)))
    assert not [note for note in notes(replayed(made)) if "code" in note]


def test_plan_and_tables_name_what_is_stale_and_why(folder: Path) -> None:
    arm = replayed(folder).arms[1]
    for key in (arm.trials[0], *arm.finals):
        made_by(folder, key, AFFINE)
    under_way = replayed(folder)
    assert set(find_stale(under_way).keys) == {arm.trials[0], *arm.finals}
    assert (
        "3 finished runs were made before code changed that they depend on: stn_affine+affine (3). "
        f"Changed: {AFFINE}. They count as they are; `make sweep STALE=again` makes them again."
    ) in [note.replace("upright/", "") for note in notes(under_way)]
    (note,) = code_notes(read_study(folder / "runs", STUDY))
    assert note.startswith(f"Not all runs were made by the same code: {AFFINE} changed in between")
    assert not audit(folder / "runs").findings


def test_runs_of_two_variants_that_share_no_changed_part_do_not_mix(folder: Path) -> None:
    first, second = replayed(folder).arms
    for key in second.keys:
        made_by(folder, key, AFFINE)
    assert not list(code_notes(read_study(folder / "runs", STUDY))), "all runs that depend on it are alike"
    for key in second.keys:
        made_by(folder, key, "experiments/runs/training.py")
    (note,) = code_notes(read_study(folder / "runs", STUDY))
    assert "experiments/runs/training.py changed" in note
    assert set(find_stale(replayed(folder)).keys) == set(second.keys) and first.keys


def test_older_runs_are_read_and_said_to_be_without(folder: Path) -> None:
    keys = [key for arm in replayed(folder).arms for key in arm.keys]
    made_by(folder, keys[0], None)
    assert find_stale(replayed(folder)).num_unknown == 1
    assert "What code made 1 finished run is not known: older versions did not say." in notes(replayed(folder))
    (note,) = code_notes(read_study(folder / "runs", STUDY))
    assert note == f"Of 1 of {NUM_RUNS} runs is not known what code made them."
    for key in keys[1:]:
        made_by(folder, key, None)
    assert find_stale(replayed(folder)).num_unknown == NUM_RUNS
    assert not list(code_notes(read_study(folder / "runs", STUDY))), "as the tables of older versions"


def test_a_sweep_makes_them_again_where_it_is_asked_to(folder: Path) -> None:
    before = contents(folder / "runs/runs", "run.json")
    arm = replayed(folder).arms[0]
    made_by(folder, arm.finals[0], "experiments/runs/training.py")
    executor = HereAndNow()
    sweep_here(folder, executor)
    assert not executor.made, "they are kept"
    assert remove_stale(replayed(folder)).keys == [arm.finals[0]]
    sweep_here(folder, executor)
    assert [job.key for job in executor.made] == [arm.finals[0]]
    assert not find_stale(replayed(folder)).keys
    assert contents(folder / "runs/runs", "run.json") == before, "the code did not really change"


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_that_the_server_keeps_rows_is_said_where_there_is_one(
    folder: Path, mode: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object) -> None:
        raise UserError("that is enough")

    made_by(folder, replayed(folder).arms[0].finals[0], "experiments/runs/training.py")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("experiments.terminal.commands.sweep.find_place", lambda tracker, asked: (mode, ""))
    monkeypatch.setattr("experiments.terminal.commands.sweep.estimate", stop)
    write_sweep(folder)
    assert main(["sweep", "--budget=smoke", "--stale=again"]) == 2
    said = capsys.readouterr()
    assert said.err == "error: that is enough\n"
    ending = f"They will be made again.{ROWS_STAY if mode == 'online' else ''}\n"
    assert ending in said.out


@pytest.mark.long
def test_the_commands_say_what_is_stale_and_make_it_again(folder: Path) -> None:
    write_sweep(folder)
    key = replayed(folder).arms[1].finals[0]
    made_by(folder, key, AFFINE)
    stale = f"1 finished run was made before code changed that it depends on: upright/stn_affine+affine (1). {AFFINE}"
    for command, ending in (
        (["plan"], "They count as they are; `make sweep STALE=again` makes them again."),
        (["sweep"], "They count as they are; `make sweep STALE=again` makes them again."),
        (["sweep", "--stale=again"], "They will be made again."),
    ):
        done = run(*command, "--budget=smoke", cwd=folder)
        assert done.returncode == 0, done.stderr
        said = " ".join(done.stdout.split())
        assert stale.replace(f" {AFFINE}", f" Changed: {AFFINE}. {ending}") in said
    assert "final seed 1" in done.stdout and not find_stale(replayed(folder)).keys


def test_what_is_damaged_is_left_to_those_who_read_it(folder: Path) -> None:
    first, *_ = (key for arm in replayed(folder).arms for key in arm.keys)
    path = folder / "runs/runs" / first / "cost.json"
    whole = path.read_text()
    for content in ("", "{", whole[: whole.index('"code"') + 40], whole.replace('"code": {', '"code": {"a": 1,')):
        path.write_text(content)
        assert not find_stale(replayed(folder)).keys
    path.unlink()
    assert find_stale(replayed(folder)).num_unknown == 1


def test_to_look_at_a_thousand_runs_reads_each_of_them_once_and_hardly_more(folder: Path) -> None:
    """The tenth of a second that ten thousand runs may take is measured by hand; this is what it consists of."""
    under_way = replayed(folder)
    runs, arm = folder / "runs/runs", under_way.arms[0]
    content = (runs / arm.trials[0] / "cost.json").read_bytes()
    (trials,) = arm.tunings
    one = trials.trials[0]
    for number in range(1000):
        key = f"{number:016x}"
        (runs / key).mkdir()
        (runs / key / "cost.json").write_bytes(content)
        trials.trials.append(type(one)(**{**vars(one), "key": key}))
        under_way._made.add(key)
    find_stale(under_way)
    profile = cProfile.Profile()
    profile.enable()
    assert not find_stale(under_way).keys
    profile.disable()
    calls = profile.getstats()
    num_runs = len(under_way.finished())
    assert num_runs > 1000
    assert sum(entry.callcount for entry in calls if "posix.open" in str(entry.code)) == num_runs
    assert sum(entry.callcount for entry in calls) < 12 * num_runs


def test_another_word_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--sweep", str(write_sweep(tmp_path)), "--budget=smoke", "--stale=agein"]) == 2
    assert capsys.readouterr().err == "error: stale: 'agein' is unknown; did you mean 'again'?\n"
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["sweep.yaml"]'
