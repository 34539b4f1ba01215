"""Runs made again: an honest ledger's are the same bytes, a forged one's are not, and what cannot be made is said."""

import importlib.metadata
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import comb, sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.images.tasks import load_task
from experiments.images.tasks.downloads import DownloadError
from experiments.study.study import read_protocol
from experiments.study.sweep_file import Section
from experiments.sweep import rerun
from experiments.sweep.rerun import Candidates, Compared, chance_of_meeting, draws_needed, find_candidates, make_again
from experiments.terminal.cli import main
from ledger.audit import audit
from ledger.comparison import differences
from ledger.config import Fit, Optim, Protocol, RunConfig, run_key
from ledger.ledger import Ledger
from tests.faults.damage import CHANGES, arm_of, edit, edit_arrays, final_run, renew_sums, set_in
from tests.support.command_line import contents, run
from tests.support.image_folders import CLASSES, make_classes, make_parts, pixels_of, save
from tests.support.tiny_study import HereAndNow, sweep_here


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A ledger with two trials and two final runs. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    sweep_here(folder, HereAndNow(), **CHANGES)
    return folder / "runs"


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to do anything to."""
    return shutil.copytree(made, tmp_path / "runs")


def found_in(root: Path, scratch: Path, cache: Path, data: Path | None = None) -> Candidates:
    ledger = Ledger(root, read_only=True)
    return find_candidates(ledger, ledger.folders(), scratch, data=data, group="", cache=cache, say=lambda line: None)


@pytest.fixture(scope="module")
def again(made: Path, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, list[Compared]]:
    """Where all of its runs were made again, and what came of it."""
    scratch = tmp_path_factory.mktemp("again")
    jobs = found_in(made, scratch, cache).draw(4, seed=0)
    return scratch, list(make_again(HereAndNow(), jobs, Ledger(made, read_only=True), lambda: None))


@pytest.mark.long
def test_an_honest_ledger_passes(made: Path, again: tuple[Path, list[Compared]]) -> None:
    scratch, compared = again
    assert [(each.different, each.problem) for each in compared] == 4 * [((), "")]
    assert {each.job.key for each in compared} == set(os.listdir(made / "runs")) == set(os.listdir(scratch / "runs"))


def forge_accuracy(root: Path) -> Path:
    """A better trial, told alike in all of its files."""
    folder = root / "runs" / arm_of(root)["trials"][0]
    better = json.loads((folder / "run.json").read_text())["result"]["val_accuracy"] + 1 / 64
    edit(folder / "run.json", set_in("result", "val_accuracy", better))
    edit(folder / "history.json", set_in(-1, "val_accuracy", better))
    return folder


def forge_weights(root: Path) -> Path:
    """The smallest change that a number can have."""

    def nudge(arrays: dict[str, Any]) -> None:
        name = next(name for name in arrays if name.endswith("weight"))
        arrays[name].flat[0] = np.nextafter(arrays[name].flat[0], np.float32(1))

    folder = final_run(root)
    edit_arrays(folder / "weights.safetensors", nudge)
    return folder


def forge_predictions(root: Path) -> Path:
    """Two images of one class change their answers: no score moves."""

    def swap(arrays: dict[str, Any]) -> None:
        label, predicted = arrays["label"], arrays["predicted"]
        one, other = next(
            (i, j) for i, j in combinations(range(len(label)), 2)
            if label[i] == label[j] and predicted[i] != predicted[j] and label[i] not in (predicted[i], predicted[j])
        )  # fmt: skip
        predicted[[one, other]] = predicted[[other, one]]

    folder = final_run(root)
    edit_arrays(folder / "predictions.safetensors", swap)
    return folder


FORGERIES: dict[str, tuple[Callable[[Path], Path], set[str]]] = {
    "accuracy": (forge_accuracy, {"run.json", "history.json"}),
    "weights": (forge_weights, {"weights.safetensors"}),
    "predictions": (forge_predictions, {"predictions.safetensors"}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_that_nothing_else_shows_is_named(root: Path, again: tuple[Path, list[Compared]], name: str) -> None:
    forge, files = FORGERIES[name]
    renew_sums(folder := forge(root))
    assert not audit(root).findings
    assert {file for file, _ in differences(folder, again[0] / "runs" / folder.name)} == files


ELSEWHERE: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "CPU": ("cost.json", set_in("device_name", "Z80"), "were made on Z80, and this is on "),
    "system": ("cost.json", set_in("system", "CP/M"), "were made under CP/M, and this is under "),
    "threads": ("cost.json", set_in("threads", 7), "were made with 7 threads, and this is with 1 threads"),
    "device": ("cost.json", set_in("device", "cuda"), "were made on cuda, where no repetition is the same bytes"),
    "torch": ("cost.json", set_in("versions", "torch", "1.0"), "were made with torch 1.0, and here is "),
    "no torch": ("cost.json", lambda cost: cost["versions"].pop("torch"), "were made with torch none, and here is "),
    "Python": ("cost.json", set_in("versions", "python", "2.7.18"), "were made with python 2.7, and here is 3."),
    "code": (
        "cost.json",
        lambda cost: cost["code"].update(stn="maps.py:000000000000"),
        "were made before code changed that they depend on: stn/",
    ),
    "format": ("run.json", set_in("format", 4), "are of format 4, and this version makes runs of format 5"),
    "failed": ("run.json", set_in("status", "failed"), "failed, which says nothing of their settings"),
    "variant": (
        "run.json",
        set_in("config", "variant", "capsules"),
        "have settings that this version does not know",
    ),
    "pose": (
        "run.json",
        set_in("config", "pose", "upside_down"),
        "have settings that this version does not know",
    ),
    "epochs": (
        "run.json",
        set_in("config", "protocol", "epochs", -1),
        "have settings that this version does not know",
    ),
    "another run's settings": (
        "run.json",
        set_in("config", "seed", 99),
        "have settings that this version does not know",
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_why_a_run_cannot_be_made_again_is_said(root: Path, tmp_path: Path, cache: Path, name: str) -> None:
    file, change, why = ELSEWHERE[name]
    edit(final_run(root) / file, change)
    renew_sums(final_run(root))
    candidates = found_in(root, tmp_path, cache)
    assert len(candidates.jobs) == 3 and final_run(root).name not in candidates.jobs
    ((said, number),) = candidates.others.items()
    assert said.startswith(why) and number == 1


def on_timm(root: Path, weights: str) -> Path:
    """Have a final run be one on a network of timm."""
    folder = final_run(root)
    record = json.loads((folder / "run.json").read_text())
    variant = f"cnn@timm:resnet18:weights={weights}" if weights else "cnn@timm:resnet18"
    config = record["config"] | {"variant": variant, "optim": Optim(**record["config"]["optim"])}
    protocol = read_protocol(Protocol(), Section("", "", config["protocol"]))
    run = RunConfig(**{**config, "protocol": protocol, "prune_below": tuple(config["prune_below"])})
    key = run_key(run, record["task"]["content_hash"])
    edit(folder / "run.json", set_in("config", "variant", variant))
    edit(folder / "run.json", set_in("key", key))
    edit(folder / "cost.json", lambda cost: cost.pop("code"))
    renew_sums(folder)
    return folder.rename(folder.with_name(key))


@pytest.fixture
def with_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where timm is installed, of which nothing is used."""
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(__spec__=object()))
    monkeypatch.setattr("experiments.networks.weights.known_networks", lambda: ("resnet18",))


@pytest.mark.usefixtures("with_timm")
def test_a_run_whose_weights_are_not_here_is_not_drawn(root: Path, tmp_path: Path, cache: Path) -> None:
    folder = on_timm(root, weights="0123456789abcdef")
    candidates = found_in(root, tmp_path, cache)
    assert candidates.others == {"start from weights that are not on this machine": 1}
    assert len(candidates.jobs) == 3 and folder.name not in candidates.jobs


@pytest.mark.usefixtures("with_timm")
def test_a_run_that_needs_no_weights_is_drawn(root: Path, tmp_path: Path, cache: Path) -> None:
    folder = on_timm(root, weights="")
    candidates = found_in(root, tmp_path, cache)
    assert candidates.others == {} and folder.name in candidates.jobs


@pytest.mark.usefixtures("with_timm")
def test_another_version_of_timm_is_a_reason_where_it_is_recorded(
    root: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0.20" if name == "timm" else known(name))
    cost = on_timm(root, weights="") / "cost.json"
    versions = json.loads(cost.read_text())["versions"]
    for version, others in (("1.0.20", {}), ("1.0.19", {"were made with timm 1.0.19, and here is 1.0.20": 1})):
        edit(cost, set_in("versions", {**versions, "timm": version}))
        renew_sums(cost.parent)
        assert found_in(root, tmp_path, cache).others == others


def test_a_library_that_is_missing_is_named(
    root: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_timm(root, weights="")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert found_in(root, tmp_path, cache).others == {"need timm, which is not installed here": 1}


def test_what_decides_no_byte_of_a_version_does_not_count(root: Path, tmp_path: Path, cache: Path) -> None:
    versions = json.loads((final_run(root) / "cost.json").read_text())["versions"]
    other = {"torch": versions["torch"].split("+")[0] + "+cu999", "python": versions["python"] + "99", "wandb": "0"}
    edit(final_run(root) / "cost.json", set_in("versions", {**versions, **other}))
    renew_sums(final_run(root))
    assert len(found_in(root, tmp_path, cache).jobs) == 4


@pytest.mark.long
def test_images_are_found_in_the_cache_by_their_name_or_in_the_folder_that_is_given(
    tmp_path: Path, cache: Path
) -> None:
    def say(line: str) -> None:
        pass

    sprites = load_task("sprites", image_px=32, cache=cache, say=say).record()
    empty = tmp_path / "cache"
    assert rerun._Images(None, "", cache, say).why_not({**sprites, "name": "gone"}, 32, "crop") == ""
    assert rerun._Images(None, "", empty, say).why_not(sprites, 32, "crop") == ""
    other = rerun._Images(None, "", empty, say).why_not({**sprites, "content_hash": "0" * 64}, 32, "crop")
    assert other == "are of other images than those of sprites here"
    make_parts(tmp_path / "own")
    own = load_task(f"folder:{tmp_path / 'own'}", image_px=16, cache=tmp_path / "first", say=say).record()
    assert rerun._Images(None, "", empty, say).why_not(own, 16, "crop").endswith("--data=FOLDER names it")
    assert rerun._Images(tmp_path / "own", "", empty, say).why_not(own, 16, "crop") == ""
    assert rerun._Images(None, "", empty, say).why_not(own, 16, "crop") == "", "they are in the cache now"


def test_images_that_were_fitted_or_grouped_are_found_in_their_folder(tmp_path: Path) -> None:
    def say(line: str) -> None:
        pass

    root = make_classes(tmp_path / "own")
    for name in CLASSES:
        save(root / name / "00.png", pixels_of(7, height=16, width=24))
    spec, group = f"folder:{root}", "name:(.)"

    def looked(number: int, group: str) -> rerun._Images:
        return rerun._Images(root, group, tmp_path / f"cache{number}", say)

    fits: tuple[Fit, ...] = ("pad", "stretch")
    for number, fit in enumerate(fits):
        task = load_task(spec, image_px=16, fit=fit, cache=tmp_path / "first", say=say).record()
        images = looked(number, group)
        assert "are of other images" in images.why_not(task, 16, "crop")
        assert images.why_not(task, 16, fit) == "", "a run that has no groups is of the folder without them"
    task = load_task(spec, image_px=16, cache=tmp_path / "first", say=say, group="name:0*(.)").record()
    assert looked(8, "").why_not(task, 16, "crop") == "are of images in groups; --group says which belong together"
    assert "are of other images" in looked(8, "name:(..)").why_not(task, 16, "crop")
    assert looked(8, "name:0*(.)").why_not(task, 16, "crop") == ""


def test_a_data_set_that_cannot_be_had_is_said_of_its_runs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spec: str, **options: object) -> None:
        raise DownloadError(f"{spec} cannot be downloaded")

    monkeypatch.setattr("experiments.sweep.rerun.load_task", refuse)
    images = rerun._Images(None, "", cache, lambda line: None)
    why = images.why_not({"name": "mnist", "content_hash": "0" * 64}, 32, "crop")
    assert why == "are of mnist, which cannot be had here"


def test_a_run_that_cannot_be_made_is_a_problem_of_its_own(made: Path, tmp_path: Path, cache: Path) -> None:
    jobs = found_in(made, tmp_path, cache).draw(2, seed=0)
    jobs[1] = replace(jobs[1], run=replace(jobs[1].run, seed=99))
    executor = HereAndNow(fails=lambda job: job.key == jobs[0].key)
    with pytest.raises(ValueError, match="the images have changed"):
        executor.submit(jobs[1])
    (compared,) = make_again(executor, jobs[:1], Ledger(made, read_only=True), lambda: None)
    assert not compared.different and compared.problem == "the worker was killed by SIGSEGV (2 attempts)"


def test_the_same_seed_draws_the_same_runs(made: Path, tmp_path: Path, cache: Path) -> None:
    candidates = found_in(made, tmp_path, cache)
    drawn = [[job.key for job in candidates.draw(2, seed)] for seed in (*range(20), *range(20))]
    assert drawn[:20] == drawn[20:] and all(len(set(keys)) == 2 for keys in drawn)
    assert {key for keys in drawn for key in keys} == set(candidates.jobs)
    assert len(candidates.draw(99, seed=0)) == 4


@given(st.data())
def test_the_chance_is_that_of_all_draws(data: st.DataObject) -> None:
    num_runs = data.draw(st.integers(1, 9))
    num_forged, num_drawn = data.draw(st.integers(0, num_runs)), data.draw(st.integers(0, num_runs))
    draws = list(combinations(range(num_runs), num_drawn))
    met = sum(any(run < num_forged for run in draw) for draw in draws) / len(draws)
    assert chance_of_meeting(num_runs, num_forged, num_drawn) == pytest.approx(met)


def test_the_chance_is_the_hypergeometric_distributions() -> None:
    assert chance_of_meeting(140, 14, 5) == pytest.approx(1 - comb(126, 5) / comb(140, 5))
    assert chance_of_meeting(140, 14, 5) == pytest.approx(0.4143, abs=0.0001)
    needed = draws_needed(140, 14, 0.95)
    assert comb(126, needed) / comb(140, needed) <= 0.05 < comb(126, needed - 1) / comb(140, needed - 1)
    assert draws_needed(1, 1, 0.95) == 1


def test_planted_runs_are_drawn_at_the_rate_that_is_stated(made: Path, tmp_path: Path, cache: Path) -> None:
    job = found_in(made, tmp_path, cache).draw(1, seed=0)[0]
    keys = [f"{number:016x}" for number in range(140)]
    candidates = Candidates({key: replace(job, key=key) for key in keys}, {}, {})
    forged, repeats = set(random.Random(7).sample(keys, 14)), 2000
    met = sum(bool(forged & {job.key for job in candidates.draw(5, seed)}) for seed in range(repeats)) / repeats
    chance = chance_of_meeting(140, 14, 5)
    assert abs(met - chance) < 4 * sqrt(chance * (1 - chance) / repeats)


def test_a_ledger_of_another_machine_is_refused_in_a_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (root / "runs").iterdir():
        edit(folder / "cost.json", set_in("device_name", "Z80"))
        renew_sums(folder)
    assert main(["verify", str(root), "--rerun", "2"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: rerun: no run of {root} can be made again here: 4 runs were made on Z80, and this")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rerun=-1"], "rerun: -1 is negative"),
        (["--rerun=1", "--seed=-1"], "seed: -1 is negative"),
        (["--rerun=1", "--jobs=-1"], "jobs: -1 is not between 0 and 1024"),
        (["--seed=0"], "seed: is for runs that are made again; --rerun=N says how many"),
        (["--data=images"], "data: is for runs that are made again; --rerun=N says how many"),
        (["--group=folder"], "group: is for runs that are made again; --rerun=N says how many"),
        (["--rerun=some"], "--rerun: 'some' is not a whole number"),
        (["--rerum=1"], "unknown argument --rerum; did you mean '--rerun'?"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    made: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(made), *options]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.long
def test_the_command_names_what_was_forged_and_changes_nothing(root: Path, tmp_path: Path) -> None:
    honest = run("verify", root, "--rerun", 9, "--seed", 5, cwd=tmp_path)
    assert honest.returncode == 0, honest.stderr
    assert "Making 4 runs of 4, drawn with --seed=5: about " in honest.stdout
    assert honest.stdout.endswith(
        "4 of 4 runs made again came to the same bytes.\nIf 1 of the 4 runs were forged, 4 drawn would have met one "
        "with a probability of 100 %; for 95 % it takes 4.\n"
    )
    trial, final = forge_accuracy(root), forge_weights(root)
    forge_predictions(root)
    for folder in (trial, final):
        renew_sums(folder)
    before = contents(root)
    forged = run("verify", root, "--rerun", 4, cwd=tmp_path)
    assert forged.returncode == 1 and contents(root) == before
    lines = [line for line in forged.stdout.splitlines() if line.startswith("differs")]
    assert sorted(line.split()[1] for line in lines) == sorted(
        [f"runs/{trial.name}/run.json", f"runs/{trial.name}/history.json"]
        + [f"runs/{final.name}/{name}.safetensors" for name in ("weights", "predictions")]
    )
    assert "2 of 4 runs made again came to the same bytes: others were edited, or made by other code than this." in (
        forged.stdout
    )
