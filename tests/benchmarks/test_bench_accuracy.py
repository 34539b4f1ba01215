"""The benchmark of the time to an accuracy: its sides train the same images, and its report holds every figure.

Nothing is timed.
"""

import json
import math
import re
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from benchmarks import time_to_accuracy
from benchmarks.cli import main
from benchmarks.report import median
from benchmarks.time_to_accuracy import NEW, OLD, USUAL, Clock, ratios, seconds_to, sides_for
from ledger.config import Protocol
from tests.support.command_line import run
from tests.support.image_folders import make_parts

pytestmark = pytest.mark.long

QUICK = ["--quick", "--rounds", "1"]
OLD_VARIANT = "cnn@cnn4+flip_crop:border=black:mirror=random:padding_px=4"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 of three classes."""
    return make_parts(tmp_path_factory.mktemp("bench") / "images", per_class=20)


@pytest.fixture(scope="module")
def report(images: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report on a target that a guess reaches, from the command line."""
    out = tmp_path_factory.mktemp("report") / "figures.json"
    assert main(["accuracy", str(images), *QUICK, "--target", "0.01", "--out", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["figures.json"]
    return json.loads(out.read_text())


def test_the_report_says_on_what_it_was_measured(report) -> None:
    assert report["machine"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert (report["format"], report["quick"], report["target_accuracy"], report["num_rounds"]) == (1, True, 0.01, 1)
    assert (report["num_train_images"], report["num_test_images"]) == (48, 60)  # a fifth of the 60 is held out
    assert (report["task"]["label"], report["task"]["classes"]) == ("images", ["ant", "bee", "cat"])
    assert report["load_average_before"] >= 0 and report["seconds"] > 0


def test_every_side_has_a_curve(report) -> None:
    sides = report["sides"]
    assert [(side["side"], side["variant"], side["batch_size"]) for side in sides] == [
        (USUAL, OLD_VARIANT, 128),
        (OLD, OLD_VARIANT, 128),
        (NEW, "cnn+flip_crop", 256),
    ]
    assert sides[0]["precision"] == "fp32"
    for side in sides:
        (curve,) = side["curves"]
        assert [point["epoch"] for point in curve] == [1, 2] and side["epochs"] == 2
        assert 0 < curve[0]["seconds"] < curve[1]["seconds"]
        assert all(0.01 <= point["accuracy"] <= 1 for point in curve)
        assert side["final_accuracy"] == pytest.approx(curve[-1]["accuracy"], abs=1e-4)
        assert side["images_per_s"] == pytest.approx(2 * 48 / curve[-1]["seconds"], abs=0.1)
        assert side["rounds"] == [side["seconds_to_target"]] == [curve[0]["seconds"]]


def test_the_whole_factor_is_that_of_its_parts(report) -> None:
    seconds = {side["side"]: side["seconds_to_target"] for side in report["sides"]}
    engine, recipe, both = report["ratios"]
    assert [ratio["part"] for ratio in report["ratios"]] == ["engine", "recipe", "both"]
    assert engine["ratio"] == f"{USUAL} / {OLD}" and recipe["ratio"] == f"{OLD} / {NEW}"
    assert both["value"] == pytest.approx(seconds[USUAL] / seconds[NEW], rel=1e-3)
    assert both["value"] == pytest.approx(engine["value"] * recipe["value"], rel=1e-2)
    assert [ratio["target"] for ratio in report["ratios"]] == [None, None, 10.0]


def test_a_target_that_is_missed_has_no_figures(images: Path, here: Path) -> None:
    ended = run("accuracy", images, *QUICK, "--target", 1, cwd=here, module="benchmarks")
    assert (ended.returncode, ended.stderr) == (0, "")
    for side in (USUAL, OLD, NEW):
        points = r"epoch 1 of 2, [\d.]+ % right after [\d.]+ s\nepoch 2 of 2, [\d.]+ % right after [\d.]+ s\n"
        assert re.search(f"round 1 of 1, {side}\n{points}", ended.stdout)
    assert "s to 100 %" in ended.stdout and ended.stdout.count("not reached") == 3
    assert [path.name for path in here.iterdir()] == ["bench-accuracy.json"]
    found = json.loads((here / "bench-accuracy.json").read_text())
    assert [(side["seconds_to_target"], side["rounds"]) for side in found["sides"]] == 3 * [(None, [None])]
    assert [(ratio["value"], ratio["rounds"]) for ratio in found["ratios"]] == 3 * [(None, [None])]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["images", "--target", "80"], "target: 80 is not a share of the images above 0 and up to 1, such as 0.8"),
        (["images", "--target", "nan"], "--target: 'nan' is not a number"),
        (["images", "--rounds", "0"], "rounds: 0 is less than 1"),
        (["images", "--out", "none/b.json"], "out: none/b.json cannot be written (No such file or directory)"),
        (["images", "--out", "."], "out: . cannot be written (it is a folder)"),
        (["images"], "folder 'images': does not exist\n"),
        ([""], "path: is empty, as a variable of the shell is that was not set; give it a path"),
        ([], "error: accuracy needs path: "),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(here: Path, capsys, arguments: list[str], said: str) -> None:
    assert main(["accuracy", *arguments]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1) and said in error
    assert not list(here.iterdir())


def test_a_side_that_cannot_be_trained_is_named(images: Path, here: Path, capsys, monkeypatch) -> None:
    diverges = MagicMock()
    diverges.return_value.__enter__.return_value.follow.return_value = []
    monkeypatch.setattr(time_to_accuracy, "Remote", diverges)
    assert main(["accuracy", str(images), *QUICK]) == 2
    said = f"error: these images cannot be trained on by the side {USUAL!r}: its loss is not finite\n"
    assert capsys.readouterr().err == said


def test_sides_last_as_long_as_they_need_and_have_all_else_in_common() -> None:
    fitted = Protocol(train_images=45000, precision="bf16", device="cpu")
    usual, old, new = sides_for(fitted, quick=False).values()
    assert usual == old and old.protocol.epochs > new.protocol.epochs
    for workload in (old, new):
        protocol = workload.protocol
        assert (protocol.train_images, protocol.val_images, protocol.precision) == (45000, 5000, "bf16")
    assert (old.protocol.optimiser, old.protocol.schedule, old.optim.lr) == ("sgd", "one_cycle", 0.1)
    assert new.protocol == Protocol(train_images=45000, epochs=new.protocol.epochs, precision="bf16", device="cpu")


def test_the_clock_stands_while_accuracy_is_measured(monkeypatch) -> None:
    now, told = 100.0, list[Any]()

    def pass_by(seconds: float) -> float:
        nonlocal now
        now += seconds
        return 0.5

    monkeypatch.setattr("benchmarks.time_to_accuracy.time.perf_counter", lambda: now)
    clock = Clock(torch.device("cpu"), told.append)
    for epoch in (1, 2):
        pass_by(3)
        clock.stop_for(epoch, lambda: pass_by(50))
    assert told == [{"seconds": 3.0 * epoch, "epoch": epoch, "accuracy": 0.5} for epoch in (1, 2)]


def test_the_first_epoch_that_reaches_the_target_counts() -> None:
    curve = [{"seconds": 10.0 * n, "epoch": n, "accuracy": accuracy} for n, accuracy in ((1, 0.7), (2, 0.8), (3, 0.79))]
    assert seconds_to(0.8, curve) == 20.0
    assert seconds_to(0.81, curve) is None


def test_a_round_that_misses_the_target_leaves_no_median() -> None:
    assert median("value", [3.0, 1.0, 2.5]) == {"value": 2.5, "rounds": [3.0, 1.0, 2.5]}
    rounds = {USUAL: [80.0, 90.0], OLD: [40.0, None], NEW: [8.0, 10.0]}
    engine, recipe, both = ratios([{"side": side, "rounds": seconds} for side, seconds in rounds.items()])
    assert (engine["value"], engine["rounds"]) == (None, [2.0, None])
    assert (recipe["value"], recipe["rounds"]) == (None, [5.0, None])
    assert both["value"] == pytest.approx(9.5) and math.isclose(both["rounds"][0], 10.0)
