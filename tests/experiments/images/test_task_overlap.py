"""Test images that are training images too: counted, and said wherever a score is."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.answer import answer
from analysis.findings import find
from analysis.report import report_html
from analysis.report.method import method
from experiments.images.tasks import Images, Task, load_task
from experiments.images.tasks.overlap import find_overlap, overlap_text
from experiments.study.plan import make_plan
from experiments.study.study import load_study
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import main
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.study import Overlap
from tests.support.image_folders import make_parts, pixels_of, save
from tests.support.synthetic_ledger import STUDY, edit_json, write_tiny_study
from tests.support.tiny_study import write_sweep


def task_of(train: Sequence[tuple[int, int]], test: Sequence[tuple[int, int]], image_px: int = 16) -> Task:
    """Images drawn by their numbers, with labels: pairs of both."""

    def part(pairs: Sequence[tuple[int, int]]) -> Images:
        pixels_NHWC = np.stack([pixels_of(number, image_px, image_px) for number, _ in pairs])
        labels_N = np.array([label for _, label in pairs], np.int64)
        return Images(pixels_NHWC, labels_N, np.zeros((len(pairs), 2, 3), np.float32))

    return Task("x", "X", ("a", "b"), part(train), part(test), "0" * 64)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([(1, 0), (2, 1)], [(3, 0), (4, 1)], (0, 0)),
        ([(1, 0), (2, 1)], [(1, 0), (4, 1)], (1, 0)),
        ([(1, 0), (2, 1)], [(1, 1), (2, 1)], (2, 1)),
        ([(1, 0), (1, 0), (2, 1)], [(3, 0), (3, 0)], (0, 0)),  # copies within a part
        ([(1, 0), (2, 1)], [(1, 0), (1, 1)], (2, 1)),  # both copies count
        ([(1, 0), (1, 1)], [(1, 0)], (1, 1)),  # one of the two has another label
        ([(1, 0), (1, 0)], [(1, 0)], (1, 0)),
    ],
)
@pytest.mark.parametrize("image_px", [8, 9, 16])
def test_counted(
    train: list[tuple[int, int]], test: list[tuple[int, int]], expected: tuple[int, int], image_px: int
) -> None:
    assert find_overlap(task_of(train, test, image_px)) == Overlap(*expected)


def test_a_single_other_value_makes_another_image() -> None:
    task = task_of([(1, 0), (2, 1)], [(1, 0), (2, 1)])
    for place in ((0, 0, 0), (15, 15, 2), (8, 3, 1)):
        pixels_NHWC = task.test.pixels_NHWC.copy()
        pixels_NHWC[0][place] ^= 1
        changed = replace(task, test=replace(task.test, pixels_NHWC=pixels_NHWC))
        assert find_overlap(changed) == Overlap(1, 0)


def test_images_that_are_alike_in_the_middle_are_compared_as_a_whole() -> None:
    task = task_of([(i, 0) for i in range(50)], [(i, 0) for i in range(45, 95)])
    for part in (task.train, task.test):
        part.pixels_NHWC[:, 6:10] = 255
    assert find_overlap(task) == Overlap(5, 0)


def test_60_000_images_take_well_under_a_second() -> None:
    draw = np.random.default_rng(0)
    train, test = (
        Images(
            pixels_NHWC=draw.integers(0, 256, (num, 32, 32, 3), np.uint8),
            labels_N=np.zeros(num, np.int64),
            theta_N23=np.zeros((num, 2, 3), np.float32),
        )
        for num in (50_000, 10_000)
    )
    test.pixels_NHWC[:100] = train.pixels_NHWC[-100:]
    times_s = []
    for _ in range(3):
        start = time.perf_counter()
        assert find_overlap(Task("x", "X", ("a",), train, test, "")) == Overlap(100, 0)
        times_s.append(time.perf_counter() - start)
    assert min(times_s) < 0.7


def test_said_in_a_line() -> None:
    task = task_of([(1, 0), (2, 1), (3, 1)], [(i, 0) for i in range(2, 42)])
    assert overlap_text(task, find_overlap(task)) == (
        "X: 2 of 40 test images (5 %) are training images too, pixel for pixel, 2 of them with another label there: "
        "a score on these shows memory, not skill"
    )
    one = task_of([(1, 0), (2, 1)], [(1, 0), (3, 1), (4, 1)])
    assert overlap_text(one, find_overlap(one)).startswith(
        "X: 1 of 3 test images (33 %) is a training image too, pixel"
    )
    whole = task_of([(1, 0), (2, 1)], [(1, 0), (2, 1)])
    assert overlap_text(whole, find_overlap(whole)).startswith("X: 2 of 2 test images (100 %) are training images too")
    many = replace(whole, test=replace(whole.test, labels_N=np.zeros(3_000_000, np.int64)))
    assert "(0.00013 %)" in overlap_text(many, Overlap(4, 0)) and "(6.7e-05" not in overlap_text(many, Overlap(2, 0))
    none = task_of([(1, 0)], [(2, 0)])
    assert overlap_text(none, find_overlap(none)) == ""


def test_sprites_have_none(cache: Path) -> None:
    task = load_task("sprites", image_px=32, cache=cache, say=lambda line: None)
    assert find_overlap(task) == Overlap(0, 0)


def test_a_sweep_writes_it_down_and_its_plan_says_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_parts(here / "images", per_class=12)
    save(root / "test/ant/0.png", pixels_of(0))  # that of train/ant/0.png
    save(root / "test/bee/0.png", pixels_of(1))  # that of train/ant/1.png
    protocol = {"image_px": 24, "epochs": 1, "precision": "fp32", "device": "cpu", "robustness": "none"}
    sweep = write_sweep(here, task=f"folder:{root}", protocol=protocol)
    lines: list[str] = []
    plan = make_plan(load_study(sweep, "smoke"), label="", cache=here / "cache", say=lines.append)
    expected = (
        "images: 2 of 36 test images (5.6 %) are training images too, pixel for pixel, 1 of them with another label"
    )
    assert plan.overlap == Overlap(2, 1)
    assert sum(line.startswith(expected) for line in lines) == 1
    Sweep(plan, Ledger(here / "runs"), store=True).write_manifest()
    written = json.loads((here / f"runs/studies/{plan.name}/study.json").read_text())
    assert written["overlap"] == {"num_test": 2, "num_other_label": 1}
    run = [
        "run",
        "--variant=cnn",
        "--protocol.robustness=none",
        "--task",
        f"folder:{root}",
        "--protocol.image_px=24",
        "--protocol.epochs=1",
    ]
    assert main([*run, "--protocol.device=cpu", "--protocol.precision=fp32", "--stage=trial"]) in (0, 1)
    assert expected in capsys.readouterr().out


def test_the_answer_and_the_report_say_it(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    file = tmp_path / f"studies/{STUDY}/study.json"
    old = find(tmp_path, STUDY)
    assert old.study.overlap is None  # of older ledgers nobody knows
    assert not any("image too" in text or "images too" in text for text in (*answer(old), *method(old)))
    edit_json(file, overlap={"num_test": 0, "num_other_label": 0})
    none = find(tmp_path, STUDY)
    assert answer(none) == answer(old)
    assert any("None of them is a training image too" in text for text in method(none))
    edit_json(file, overlap={"num_test": 1_234, "num_other_label": 5})
    found = find(tmp_path, STUDY)
    assert found.study.overlap == Overlap(1_234, 5)
    said = "1,234 test images are training images too, pixel for pixel (5 of them with another label there)."
    assert sum(said in text for text in answer(found)) == 1
    assert [text for text in answer(found) if said not in text] == list(answer(old))
    html = report_html(found, [])
    assert html.count(said) == 1 and html.index(said) < html.index("The evidence")
    assert "1,234 of them are training images too" in html


@pytest.mark.parametrize(
    "overlap", [[1, 2], "12", {"num_test": "12"}, {"num_test": 1}, {"num_test": -1, "num_other_label": 0}, {"x": 1}]
)
def test_an_overlap_that_is_none_is_refused(overlap: object, tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    edit_json(tmp_path / f"studies/{STUDY}/study.json", overlap=overlap)
    with pytest.raises(UserError, match=r"study\.json: '(overlap|num_test|num_other_label)' is "):
        find(tmp_path, STUDY)
