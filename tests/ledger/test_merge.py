"""`merge`: ledgers of several folders into one, with the same tables as if one had made all; or nothing is changed."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from experiments.terminal.cli import main
from ledger.audit import audit
from ledger.checksums import LEFT_OUT, SUMS, WEIGHTS, read_sums
from ledger.config import RESULT_FORMAT
from ledger.ledger import Ledger
from ledger.sweep_lock import only_sweep_of
from tests.faults.damage import correct_one, edit, edit_arrays, set_in
from tests.support.command_line import contents
from tests.support.project import ROOT
from tests.support.split_ledger import (
    NUM_RUNS,
    STUDY,
    change_cost,
    change_manifest,
    cut,
    manifest,
    only_seed,
    only_variants,
    renew,
    whole_ledger,
    write_sums,
)
from tests.support.tiny_study import TINY, HereAndNow, sweep_here

HALVES = {
    "seeds": (only_seed(1), only_seed(2)),
    "variants": (only_variants(0), only_variants(0, 1)),
    "progress": (lambda study: study["arms"][1].update(finals=[], winner=None), lambda study: None),
}


def merge(*sources: Path, into: Path) -> int:
    return main(["merge", *map(str, sources), "--into", str(into)])


def results(root: Path) -> dict[str, bytes]:
    """What one sweep and two halves have alike."""
    return {name: text for name, text in contents(root).items() if name.partition("/")[0] in ("runs", "studies")
            and not name.endswith(("cost.json", SUMS))}  # fmt: skip


def as_it_is(root: Path) -> dict[str, bytes]:
    """All of it; any sweep leaves its lock's file."""
    return {name: text for name, text in contents(root).items() if name != "sweep.lock"}


def tables(root: Path, out: Path) -> dict[str, bytes]:
    assert main(["tables", "--runs", str(root), "--reports", str(out)]) == 0
    return {name: text for name, text in contents(out).items() if "/times." not in name}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("split", HALVES)
def test_two_halves_are_the_whole(
    split: str, first: int, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a study split by final seeds, by variants, and where one folder has not come to an arm's final runs."""
    whole = whole_ledger(tmp_path / "whole")
    halves = [cut(tmp_path / f"half{i}", change, seconds=float(i)) for i, change in enumerate(HALVES[split])]
    assert all(audit(half).findings == [] for half in halves)
    assert any(len(results(half)) < len(results(whole)) for half in halves)
    before = [as_it_is(half) for half in halves]
    one, other = halves[first], halves[1 - first]
    assert merge(one, other, into=tmp_path / "merged") == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'merged'}: {NUM_RUNS} runs more; studies: {STUDY}\n" in said
    num_there = sum(len(list((half / "runs").iterdir())) for half in halves) - NUM_RUNS
    assert f"{other}: {len(list((other / 'runs').iterdir())) - num_there} run" in said
    assert f"taken, {num_there} there already\n" in said
    assert [as_it_is(half) for half in halves] == before
    assert audit(tmp_path / "merged").findings == []
    assert results(tmp_path / "merged") == results(whole)
    assert tables(tmp_path / "merged", tmp_path / "of_merged") == tables(whole, tmp_path / "of_whole")
    assert merge(one, into=tmp_path / "merged") == 0  # again
    assert "0 runs more\n" in capsys.readouterr().out


def test_what_is_there_stays_and_is_not_written_again(here: Path, tmp_path: Path) -> None:
    into, half = cut(tmp_path / "into", only_seed(1)), cut(tmp_path / "half", only_seed(2), seconds=9.0)
    (into / "wandb").mkdir()
    (into / "wandb/notes").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in into.rglob("*") if path.is_file() and STUDY not in str(path)}
    assert merge(half, into=into) == 0
    assert before.items() <= {path: path.stat().st_mtime_ns for path in into.rglob("*")}.items()
    assert results(into) | {"wandb/notes": b"mine"} == results(whole_ledger(tmp_path / "whole")) | {
        "wandb/notes": b"mine"
    }


@pytest.fixture
def two(here: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two halves by seeds, of which the second is to be merged into the first."""
    return cut(tmp_path / "into", only_seed(1)), cut(tmp_path / "half", only_seed(2))


def refused(sources: list[Path], into: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of it, in one line; nothing is changed."""
    folders = [folder for folder in (*sources, into) if folder.is_dir()]
    before = [as_it_is(folder) for folder in folders]
    assert merge(*sources, into=into) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert [as_it_is(folder) for folder in folders] == before
    assert into in folders or not into.exists()
    assert not [path for folder in folders for path in folder.rglob(".*")]
    return said


def common_final(two: tuple[Path, Path]) -> Path:
    """A trial that both halves have, in the second one."""
    return two[1] / "runs" / manifest(two[1])["arms"][0]["trials"][0]


def edit_run(folder: Path, *place_and_value: Any) -> None:
    edit(folder / "run.json", set_in(*place_and_value))
    renew(folder)


def add_picture(folder: Path) -> None:
    shutil.copy(ROOT / "docs/answer.png", folder / "transformer.png")
    renew(folder)


CONTRADICTIONS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another result": (lambda key: edit_run(key, "result", "train_flops", 1.0), "another run.json"),
    "a run that failed": (lambda key: edit_run(key, "error", "killed"), "another run.json"),
    "a file more": (add_picture, "another transformer.png"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_the_same_run_with_other_bytes_is_a_conflict(
    name: str, two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = CONTRADICTIONS[name]
    change(folder := common_final(two))
    change_cost(folder, device_name="Another CPU", code={"stn": "affine.py:1 maps.py:2", "ledger": "config.py:3"})
    assert audit(two[1]).findings == []
    said = refused([two[1]], two[0], capsys)
    assert f"{two[1]}/runs/{folder.name}: is the same run as here with {words}, made on Another CPU" in said
    assert "and on AMD EPYC" in said and "nothing was merged" in said and "another stn/" not in said
    change_cost(two[0] / "runs" / folder.name, code={"stn": "affine.py:1 maps.py:4", "ledger": "config.py:3"})
    assert "here, made by another stn/maps.py; nothing was merged" in refused([two[1]], two[0], capsys)
    refused([two[1], two[0]], two[0].with_name("new"), capsys)  # nor where two sources contradict each other


def test_the_measured_alone_is_no_conflict(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (two[1] / "runs").iterdir():
        change_cost(folder, device_name="Another CPU", train_seconds=1e6)
    assert merge(two[1], into=two[0]) == 0
    assert f"{two[1]}/studies/{STUDY}: made on Another CPU, and what is here on AMD EPYC\n" in capsys.readouterr().out
    there = json.loads((two[0] / "runs" / common_final(two).name / "cost.json").read_text())
    assert there["device_name"] == "AMD EPYC"


@pytest.mark.parametrize("newer", [0, 1])
def test_a_score_that_came_later_is_no_conflict(
    newer: int, two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever has it: what is here stays. What both have is one."""
    folders = [root / "runs" / common_final(two).name for root in two]
    result = json.loads((folders[newer] / "run.json").read_text())["result"]
    assert "test_auroc" not in result
    edit_run(folders[newer], "result", result | {"test_auroc": None, "predict_flops": 2.0})
    before = (folders[0] / "run.json").read_bytes()
    assert merge(two[1], into=two[0]) == 0
    assert (folders[0] / "run.json").read_bytes() == before
    edit_run(folders[1 - newer], "result", result | {"predict_flops": 3.0})
    assert "with another run.json" in refused([two[1]], two[0], capsys)


def test_other_versions_do_not_mix_in_one_study(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    cost = json.loads((common_final(two) / "cost.json").read_text())
    for folder in (two[1] / "runs").iterdir():
        change_cost(folder, versions=cost["versions"] | {"torch": "2.15.0"})
    said = refused([two[1]], two[0], capsys)
    assert f"{two[1]}/studies/{STUDY}: its runs were made with python 3.11, torch 2.15.0, torchvision" in said
    assert "those here with python 3.11, torch 2.14.1," in said
    for folder in (two[1] / "runs").iterdir():  # builds of a version, and what no byte depends on
        change_cost(folder, versions=cost["versions"] | {"torch": "2.14.1+cpu", "wandb": "9", "python": "3.11.99"})
    assert merge(two[1], into=two[0]) == 0


def test_versions_of_what_only_some_runs_depend_on_do_not_mix_either(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def made_with(folder: Path, version: str) -> None:
        versions = json.loads((folder / "cost.json").read_text())["versions"]
        change_cost(folder, versions=versions | {"timm": version})

    here, *others = (two[0] / "runs").iterdir()
    for folder in (two[1] / "runs").iterdir():
        made_with(folder, "1.0.20")
    made_with(here, "1.0.19")
    said = refused([two[1]], two[0], capsys)
    assert "its runs were made with timm 1.0.20, and those here with timm 1.0.19: one study" in said
    made_with(here, "1.0.20")
    assert others and merge(two[1], into=two[0]) == 0, "what the others are without does not count"


def test_weights_that_are_left_out_on_one_side_are_compared_by_their_checksum(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    into = whole_ledger(two[0].with_name("whole"))
    folder = next(path.parent for path in (two[1] / "runs").glob(f"*/{LEFT_OUT}"))
    assert merge(two[1], into=into) == 0
    text = (folder / SUMS).read_text()
    line = next(line for line in text.splitlines() if line.endswith(WEIGHTS))
    (folder / SUMS).write_text(text.replace(line, f"{'0' * 64}  {WEIGHTS}"))
    assert f"{folder.name}: is the same run as here with another {WEIGHTS}" in refused([two[1]], into, capsys)


def with_weights(root: Path, light: Path) -> list[Path]:
    """Give the runs of a ledger weights, and another ledger, which has none, their checksums. Returns their files."""
    files = []
    for mark in root.rglob(LEFT_OUT):
        mark.unlink()
        content = safetensors.numpy.save({"weight": np.arange(3.0)})
        mark.with_name(WEIGHTS).write_bytes(content)
        for folder in (mark.parent, light / "runs" / mark.parent.name):
            sums = read_sums((folder / SUMS).read_bytes())
            write_sums(folder, sums | {WEIGHTS: hashlib.sha256(content).hexdigest()})
        files.append(light / "runs" / mark.parent.name / WEIGHTS)
    return files


@pytest.mark.parametrize("order", ["over it", "light first", "light last", "stopped between"])
def test_weights_that_were_left_out_come_back(order: str, here: Path, tmp_path: Path, capsys) -> None:
    full, light, into = whole_ledger(tmp_path / "full"), whole_ledger(tmp_path / "light"), tmp_path / "into"
    files = with_weights(full, light)
    again = shutil.copytree(light, tmp_path / "again")
    assert files and audit(full).findings == audit(light).findings == []
    if order in ("over it", "stopped between"):
        into, sources = light, [full]
    else:
        sources = [light, full] if order == "light first" else [full, light]
    if order == "light first":  # which was itself stopped between, at one run
        shutil.copy(full / files[0].relative_to(light), files[0])
    if order == "stopped between":  # after the weights came, before the mark went
        shutil.copy(full / files[0].relative_to(light), files[0])
        assert audit(light).findings == []
        assert main(["archive", str(light), "--out", str(tmp_path / "a.tar.xz")]) == 0
    capsys.readouterr()
    assert merge(*sources, into=into) == 0
    said = f"it has the weights of {len(files)} runs, which were left out here"
    assert (said in capsys.readouterr().out) == (order != "light last")
    assert audit(into).findings == [] and not list(into.rglob(LEFT_OUT)) and not list(into.rglob(".*"))
    assert results(into) == results(full)
    assert merge(again, into=into) == 0
    assert results(into) == results(full)  # and none goes again


OTHERS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "protocol": (set_in("protocol", "epochs", 3), "damaged"),  # its hash is another
    "trials": (set_in("num_trials", 3), "its num_trials is 3, and here 2"),
    "search": (set_in("sampler", "random"), "its sampler is 'random', and here 'tpe'"),
    "alpha": (set_in("claims", "alpha", 0.1), "its claims' alpha is 0.1, and here 0.05"),
    "space": (set_in("arms", 0, "space", {}), "its cnn's space is {}, and here"),
    "format": (set_in("format", RESULT_FORMAT - 1), f"its format is {RESULT_FORMAT - 1}, and here"),
    "hostile": (lambda study: study["claims"].pop("family"), "lacks what it should hold (KeyError: 'family')"),
    "gap": (lambda study: study.update(first_seed=4), "has final seeds 4 to 4, and here are 1 to 1"),
    "both": (lambda study: study["arms"].pop(), "has other variants and other final seeds"),
    "run": (lambda study: study.update(first_seed=1), "lists runs of cnn that the study here has not"),
    "untuned": (lambda study: study["arms"][0].update(finals=[]), "the tuning of cnn is not done in both"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_study_of_the_same_name_is_named(
    what: str, two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = OTHERS[what]
    change_manifest(two[1], change)
    said = refused([two[1]], two[0], capsys)
    assert f"{two[1]}/studies/{STUDY}/study.json: " in said
    assert (words if what != "protocol" else "its protocol_hash is not that of its protocol") in said


def test_studies_and_formats_of_another_name_stand_beside_it(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    other = two[0].with_name("old")
    for name in ("runs", "studies"):
        shutil.copytree(ROOT / "tests/golden/format-3" / name, other / name)
    for folder in (other / "runs").iterdir():
        (folder / LEFT_OUT).touch()
        if json.loads((folder / "run.json").read_text())["result"]["test_accuracy"] is None:
            (folder / LEFT_OUT).unlink()
    (other / "studies" / STUDY).rename(other / "studies/older")
    change = json.loads((other / "studies/older/study.json").read_text()) | {"study": "older"}
    (other / "studies/older/study.json").write_text(json.dumps(change))
    before = results(other)
    assert merge(other, into=two[0]) == 0
    assert f"{NUM_RUNS} of older formats: this version reads them, and makes no more" in capsys.readouterr().out
    after = contents(two[0])
    assert {name: after[name] for name in before if "study.json" not in name} == {
        name: text for name, text in before.items() if "study.json" not in name
    }
    assert main(["tables", "--runs", str(two[0]), "--study", "older", "--reports", str(other / "reports")]) == 0
    assert merge(other, into=two[0]) == 0 and "0 runs more" in capsys.readouterr().out


def test_a_damaged_one_is_named(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    into, half = two
    folder = next((half / "runs").glob("*/predictions.safetensors")).parent
    kept = (folder / "predictions.safetensors").read_bytes()
    edit_arrays(folder / "predictions.safetensors", correct_one)
    said = refused([half], into, capsys)
    assert f"{half}/runs/{folder.name}/predictions.safetensors: edited: does not fit SHA256SUMS" in said
    assert f"verify {half}` says more" in said
    renew(folder)
    assert "its test_accuracy comes to" in refused([half], into, capsys)
    (folder / "predictions.safetensors").write_bytes(kept)
    shared = next(path for path in (into / "runs").iterdir() if (half / "runs" / path.name).exists())
    (shared / "history.json").write_text("[]")
    renewed = whole_ledger(into.with_name("whole"))
    assert f"{into}/runs/{shared.name}/history.json: edited" in refused([renewed], into, capsys)


def test_a_newer_one_is_refused(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = common_final(two)
    edit(folder / "run.json", set_in("format", RESULT_FORMAT + 1))
    renew(folder)
    assert f"newer: format {RESULT_FORMAT + 1} is newer than this version knows" in refused([two[1]], two[0], capsys)


def test_what_is_no_ledger_and_itself_are_refused(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    into, half = two
    foreign, link, new = into.with_name("foreign"), into.with_name("link"), into.with_name("new")
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("")
    link.symlink_to(into)
    assert f"into: {into} is to be merged into itself" in refused([half, link], into, capsys)
    assert f"into: {foreign} is not a ledger: it has no folder `runs`" in refused([half], foreign, capsys)
    assert f"{foreign} is not a ledger" in refused([foreign], new, capsys)
    assert "there is no ledger at" in refused([into.with_name("nowhere")], new, capsys)
    assert "there is no ledger at" in refused([new], new, capsys)
    (new / "runs").mkdir(parents=True)
    assert f"from: {new} holds no run" in refused([new], into, capsys)
    with only_sweep_of(half):
        assert f"another sweep is at work in {half} since" in refused([half], into, capsys)
    with only_sweep_of(into):
        assert f"another sweep is at work in {into} since" in refused([half], into, capsys)


def test_a_damaged_checkpoint_of_a_run_in_progress_is_no_hindrance(two: tuple[Path, Path]) -> None:
    for root in two:
        (root / "running/abc").mkdir(parents=True)
        (root / f"running/abc/epoch-1-{'0' * 64}.safetensors").write_bytes(b"cut")
    assert audit(two[1]).findings
    assert merge(two[1], into=two[0]) == 0
    assert main(["archive", str(two[1]), "--out", str(two[1].with_name("a.tar.xz"))]) == 0


def test_one_of_another_user_need_not_be_writable(two: tuple[Path, Path]) -> None:
    into, half = two
    (half / "sweep.lock").touch()  # a sweep has been there
    for path in (half, *half.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert merge(half, into=into) == 0
    finally:
        for path in (half, *half.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.long
def test_two_halves_made_in_two_folders_are_one_sweep_s(here: Path, tmp_path: Path) -> None:
    """Really made, tuned for each seed, with trials of both."""
    plans: dict[str, dict[str, Any]] = {
        "whole": {},
        "one": {"final_seeds": 1},
        "two": {"final_seeds": 1, "first_seed": 2},
    }
    for name, plan in plans.items():
        (tmp_path / name).mkdir()
        sweep_here(tmp_path / name, HereAndNow(), **plan, search=TINY["search"] | {"tuning": "per_seed"})
    roots = [tmp_path / name / "runs" for name in ("one", "two")]
    assert merge(*roots, into=tmp_path / "merged") == 0
    name = Ledger(tmp_path / "merged", read_only=True).studies()[0]
    merged, whole = (root / f"studies/{name}/study.json" for root in (tmp_path / "merged", tmp_path / "whole/runs"))
    assert merged.read_bytes() == whole.read_bytes()
    assert tables(tmp_path / "merged", tmp_path / "a") == tables(tmp_path / "whole/runs", tmp_path / "b")
