"""The benchmark of the probe's advice: its folders, and how an answer is judged."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.claims import Decision
from benchmarks.advice.__main__ import SPEED, main, table
from benchmarks.advice.folders import Folder, folders, parts
from benchmarks.advice.judged import Difference, judged, of_probe

DRAWN = [folder for folder in folders() if not folder.name.startswith("digits")]


@pytest.mark.parametrize("folder", DRAWN, ids=[folder.name for folder in DRAWN])
def test_a_folder_is_drawn_from_its_seed(folder: Folder) -> None:
    train, labels = folder.make(0, 60, 1)
    again, _ = folder.make(0, 60, 1)
    assert train.dtype == np.uint8 and train.shape[:3] == (60, 32, 32)
    assert np.array_equal(train, again)
    for other in (folder.make(0, 60, 2), folder.make(1, 60, 1)):
        assert not any(np.array_equal(image, train_image) for image in other[0] for train_image in train)
    assert set(labels) == set(range(labels.max() + 1)) and len(set(labels)) > 1


def test_one_class_is_rare() -> None:
    (folder,) = (folder for folder in folders() if folder.name == "one-class")
    assert folder.make(0, 1000, 0)[1].sum() == 30


def test_a_bracket_mirrored_is_of_the_other_class() -> None:
    """Without noise in the mean: the pictures of one class, mirrored, are those of the other."""
    pixels, labels = parts(0, 2000, 0, max_deg=0, kinds=(0, 1))
    shape = np.abs(pixels - np.median(pixels, axis=(1, 2), keepdims=True))
    one, other = (shape[labels == label].mean(0) for label in (0, 1))
    assert np.abs(one - other[:, ::-1]).mean() < np.abs(one - other).mean() / 3


def test_a_folder_is_written_once(tmp_path: Path) -> None:
    folder = Folder("parts", DRAWN[0].make, num_train=12, num_test=8)
    place = folder.write(tmp_path, 3)
    files = sorted(place.rglob("*.png"))
    assert len(files) == 20 and {path.relative_to(place).parts[0] for path in files} == {"train", "test"}
    assert Image.open(files[0]).size == (32, 32)
    files[0].unlink()
    assert folder.write(tmp_path, 3) == place and not files[0].exists()


def difference(decision: Decision, points: float = 0.0, half_width: float = 0.5) -> Difference:
    return Difference(points, points - half_width, points + half_width, decision)


@pytest.mark.parametrize(
    ("decision", "true", "expected"),
    [
        ("better", (3, 1), "right"),
        ("better", (0, 1), "wrong"),
        ("better", (-4, 1), "wrong"),
        ("better", (1, 2), "open"),
        ("worse", (-3, 1), "right"),
        ("equivalent", (0, 1), "right"),
        ("equivalent", (5, 1), "wrong"),
        ("equivalent", (2, 4), "open"),
        ("negligible", (1, 0.5), "right"),
        ("behind", (5, 1), "open"),
        ("unripe", (5, 1), "cannot tell"),
        ("idle", (5, 1), "cannot tell"),
        ("undecided", (0, 1), "cannot tell"),
        ("untested", (0, 1), "cannot tell"),
    ],
)
def test_an_answer_is_judged_by_the_interval_of_the_truth(decision, true, expected) -> None:
    assert judged(difference(decision), difference("undecided", *true), 2.0) == expected


def test_a_probe_is_as_wrong_as_its_worst_answer() -> None:
    assert of_probe(["right", "cannot tell", "wrong"]) == "wrong"
    assert of_probe(["right", "cannot tell", "open"]) == "right"
    assert of_probe(["open", "cannot tell", "cannot tell"]) == "open"
    assert of_probe(["cannot tell"] * 3) == "cannot tell"


SIDE = [{"points": 5.0, "low": 4.0, "high": 6.0, "decision": "better"}] * 3
ROW = {
    "folder": "parts-small", "repeat": 0, "minutes": 10.0, "speed": SPEED, "policy": "d4", "margin": 2.0,
    "protocol": {"train_images": 600, "epochs": 40, "batch_size": 64}, "probe": SIDE, "truth": SIDE,
}  # fmt: skip


def test_the_table_counts_probes() -> None:
    text = table(folders(), [ROW])
    assert "| parts-small | `d4` | 600 × 40 | +5.0 [4.0, 6.0] better (+5.0 [4.0, 6.0]): right |" in text
    assert "Of 1 probes: right 1, cannot tell 0, wrong 0, open 0." in text
    assert text.endswith("Of their answers: right 3, cannot tell 0, wrong 0, open 0.")


def test_an_answer_that_is_there_is_not_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")  # so that what it sets does not stay
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps([ROW]))
    assert main([str(answers), "--work", str(tmp_path / "work"), "--only", "parts-small", "--repeats", "1"]) == 0
    assert "Of 1 probes: right 1" in capsys.readouterr().out
    assert not (tmp_path / "work").exists() and json.loads(answers.read_text()) == [ROW]


def test_an_unknown_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([str(tmp_path / "answers.json"), "--only", "part"])
    assert raised.value.code == 2 and "'part' is not one of parts-any, parts-small" in capsys.readouterr().err


def test_a_folder_that_was_stopped_goes_on(tmp_path: Path) -> None:
    folder = Folder("parts", DRAWN[0].make, num_train=12, num_test=8)
    place = folder.write(tmp_path, 3)
    (place / "test").rename(place / "test-unfinished")
    assert len(list(folder.write(tmp_path, 3).glob("*/*/*.png"))) == 20
