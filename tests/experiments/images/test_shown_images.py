"""What was read is shown: classes, the share of the largest, facts and warnings, in plan, study.json and report."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.answer import answer
from analysis.findings import find
from analysis.records import read_study
from analysis.report import report_html
from analysis.report.method import image_facts as facts_of_report
from experiments.images.tasks import Images, Task, load_task
from experiments.images.tasks.reading import Reading
from experiments.study import plan as plans
from experiments.study.shown import image_facts, image_warnings, images_record, percent
from experiments.terminal.cli import main
from ledger.config import Protocol
from ledger.errors import UserError
from tests.support.synthetic_ledger import write_arm, write_json, write_study
from tests.support.tiny_study import STUDY, HereAndNow, sweep_here


def images(counts: Sequence[int]) -> Images:
    labels_N = np.repeat(np.arange(len(counts)), counts)
    pixels_NHWC = np.zeros((len(labels_N), 1, 1, 3), np.uint8)
    return Images(pixels_NHWC, labels_N, np.zeros((len(labels_N), 2, 3), np.float32))


def task(classes: Sequence[str], train: Sequence[int], test: Sequence[int], reading: Reading = Reading()) -> Task:  # noqa: B008
    return Task("folder", "cells", tuple(classes), images(train), images(test), "0" * 64, reading)


def test_the_classes_and_what_the_largest_alone_scores() -> None:
    assert image_facts(task(["healthy", "ill"], [388, 12], [97, 3]), Protocol()) == (
        ("Classes", "healthy 388/97, ill 12/3 (training/test images)"),
        ("Largest", "always answering 'healthy' would be right for 97.0 % of test images"),
        (
            "Uneven",
            "balanced accuracy, macro F1 and AUROC will stand beside accuracy; class_weights: balanced in the protocol "
            "has all classes count the same in training",
        ),
    )
    assert "Uneven" not in dict(image_facts(task(["healthy", "ill"], [388, 12], [14, 10]), Protocol()))
    said = dict(image_facts(task(["healthy", "ill"], [388, 12], [97, 3]), Protocol(class_weights="balanced")))["Uneven"]
    assert said.endswith("accuracy; in training all classes count the same (class_weights: balanced)")


def test_of_many_classes_the_first_and_the_last_are_named() -> None:
    names = [f"c{i:02}" for i in range(50)]
    classes, _ = image_facts(task([*names, "n" * 250], [1000] * 51, [2] * 51), Protocol())
    first = "c00 1,000/2, c01 1,000/2, c02 1,000/2, c03 1,000/2, ..., c48 1,000/2, c49 1,000/2, "
    assert classes[1] == f"{first}{'n' * 29}... 1,000/2 (training/test images)"


def test_a_class_that_the_test_part_lacks_is_one_of_none() -> None:
    classes, largest, _ = image_facts(task(["a", "b", "c"], [3, 4, 5], [1, 2, 0]), Protocol())
    assert classes[1].startswith("a 3/1, b 4/2, c 5/0 ") and "'b' would be right for 66.7 %" in largest[1]


@pytest.mark.parametrize(
    ("num", "of", "text"),
    [(40, 40, "100.0 %"), (2, 36, "5.6 %"), (0, 9, "0.0 %"), (1, 1000, "0.1 %"), (1, 10_000, "less than 0.1 %")],
)
def test_per_cent_have_no_exponent(num: int, of: int, text: str) -> None:
    assert percent(num, of) == text


def test_classes_too_rare_for_the_planned_sizes_are_named() -> None:
    cells = task(["common", "rare", "rarer"], [1000, 90, 3], [500, 2, 2])
    assert image_warnings(cells, Protocol(train_images=100, val_images=200, test_images=504)) == [
        "None of the 100 training images is of class 'rarer', too rare for so few images: plan more "
        "(protocol.train_images), or leave such classes out."
    ]
    val, test = image_warnings(cells, Protocol(train_images=0, val_images=100, test_images=50))
    assert val.startswith("None of the 100 validation images is of class 'rarer', ") and "protocol.val_images" in val
    assert test.startswith("None of the 50 test images is of classes 'rare', 'rarer', ")
    assert image_warnings(cells, Protocol(train_images=0, val_images=0, test_images=504)) == []
    many = task([f"c{i:02}" for i in range(12)], [9000, *[1] * 11], [9] * 12)
    (said,) = image_warnings(many, Protocol(train_images=100, val_images=0, test_images=108))
    assert "'c08', ... (3 more), too rare" in said


READING = Reading(
    facts=(("Parts", "training from Training/, test from Testing/"), ("[red]Odd", "a\x1b[31mb \u202eevil\n[/] c")),
    warnings=("3 of 9 images of class 'ant' in /home/someone/data are not read; convert them to PNG",),
)


@pytest.fixture
def shown(here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished study of a task that was read with a warning."""
    sprites = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)
    monkeypatch.setattr(plans, "load_task", lambda spec, **options: replace(sprites, reading=READING))
    sweep_here(here, HereAndNow(fails=lambda job: True), wandb={"mode": "disabled"})
    return here


def test_plan_and_sweep_say_it_each_time(
    shown: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in (["plan"], ["sweep", "--jobs=1"], ["plan"]):
        assert main([*command, "--budget", "smoke"]) == (command[0] == "sweep")  # none of its runs is completed
        lines = capsys.readouterr().out.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("Task  sprites"))
        end = next(i for i, line in enumerate(lines) if line.startswith("Look "))
        assert max(map(len, lines[start:end])) <= 80
        assert " ".join(" ".join(lines[start + 1 : end]).split()) == (
            "Classes arrow 1,200/400, bolt 1,200/400, boot 1,200/400, comb 1,200/400, ..., hammer 1,200/400, "
            "hook 1,200/400, house 1,200/400 (training/test images) "
            "Largest always answering 'arrow' would be right for 10.0 % of test images "
            "Parts training from Training/, test from Testing/ "
            "[red]Odd a [31mb evil [/] c "
            "Warning 3 of 9 images of class 'ant' in .../data are not read; convert them to PNG"
        )


def test_a_warning_is_yellow(shown: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert main(["plan", "--budget", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (warning,) = [line for line in lines if "are not read" in line]
    (fact,) = [line for line in lines if "training from Training/" in line]
    assert "\x1b[33m" in warning and "\x1b[33m" not in fact


def test_study_json_answer_and_report_have_it(shown: Path) -> None:
    found = json.loads((shown / f"runs/studies/{STUDY}/study.json").read_text())["images"]
    warning = "3 of 9 images of class 'ant' in .../data are not read; convert them to PNG"
    assert found == {
        "facts": [["Parts", "training from Training/, test from Testing/"], ["[red]Odd", "a [31mb evil [/] c"]],
        "warnings": [warning],
        "train": [1200] * 10,
        "test": [400] * 10,
    }
    findings = find(shown / "runs", STUDY)
    assert f"Warning: {warning}" in answer(findings)
    page = report_html(findings, [])
    shown_warning = f"<strong>Warning:</strong> {warning.replace(chr(39), '&#39;')}"
    assert page.index("<h2>The answer</h2>") < page.index(shown_warning) < page.index('<dl class="facts">')
    assert page.count("are not read") == 1
    method = page[page.index('<section id="method">') :]
    assert "<dt>Always answering arrow</dt><dd>right for 10.0 % of the test images</dd>" in method
    assert "<dt>Parts</dt><dd>training from Training/, test from Testing/</dd>" in method
    assert "arrow 1,200 + 400; bolt 1,200 + 400; " in method


def test_built_in_tasks_have_their_counts(cache: Path) -> None:
    sprites = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)
    assert images_record(sprites, Protocol())["train"] == [1200] * 10


def test_a_study_from_before_has_none(tmp_path: Path) -> None:
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [0.5, 0.6])])
    study = read_study(tmp_path, "tiny-cpu")
    assert study.images is None and not list(facts_of_report(study))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"train": [1]}, "'images' counts 1 and 3 classes, and there are 3"),
        ({"facts": [["a", "b", "c"]]}, "'images.facts' holds what is not a heading and a text"),
        ({"test": [1, 2, None]}, "'test' is None, expected a whole number of at least 0"),
        ({"test": [1, 2, True]}, "'test' is True, expected a whole number of at least 0"),
        ({"warnings": [3]}, "'warnings' is 3, expected text"),
    ],
)
def test_what_no_version_writes_is_refused(tmp_path: Path, change: dict[str, object], error: str) -> None:
    file = write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [0.5, 0.6])])
    record = json.loads(file.read_text())
    record["task"]["classes"] = ["a", "b", "c"]
    write_json(file, record | {"images": {"facts": [], "warnings": [], "train": [1, 1, 1], "test": [1, 1, 1]} | change})
    with pytest.raises(UserError, match=error):
        read_study(tmp_path, "tiny-cpu")
