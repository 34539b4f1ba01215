"""What differs between a run and the same run made again is named by file and field; what does not is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from ledger.comparison import differences
from ledger.files import to_json

RECORD = {"status": "completed", "result": {"test_accuracy": 0.5, "predict_flops": 7.0, "classes": [1, 2]}}
TENSORS = {"a": np.array([1.0, np.nan, 3.0], np.float32), "b": np.zeros((2, 2), np.float32)}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The same run twice; only what it cost differs."""
    for name in ("was", "now"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_bytes(to_json(RECORD))
        (folder / "history.json").write_bytes(to_json([{"epoch": 1, "val_accuracy": 0.5}]))
        (folder / "cost.json").write_bytes(to_json({"seconds": len(name) + id(folder)}))
        (folder / "SHA256SUMS").write_text(name)
        safetensors.numpy.save_file(TENSORS, folder / "weights.safetensors")
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(folder / "transformer.png")
    return tmp_path / "was", tmp_path / "now"


def changed(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_bytes(to_json(value))


def test_what_is_measured_does_not_count(folders: tuple[Path, Path]) -> None:
    assert not list(differences(*folders))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("run.json", lambda run: run["result"].update(test_accuracy=0.9),
         "result.test_accuracy is 0.9, and 0.5 when made again"),
        ("run.json", lambda run: run["result"].update(test_accuracy=None),
         "result.test_accuracy is None, and 0.5 when made again"),
        ("run.json", lambda run: run.update(status=1), "status is 1, and 'completed' when made again"),
        ("run.json", lambda run: run["result"].update(classes=[1.0, 2]),
         "result.classes.0 is 1.0, and 1 when made again"),
        ("run.json", lambda run: run["result"].update(classes=[1]),
         "result.classes is [1], and [1, 2] when made again"),
        ("run.json", lambda run: run.update(more=1), "more is 1, and 'absent' when made again"),
        ("history.json", lambda rows: rows[0].update(val_accuracy=0.6),
         "0.val_accuracy is 0.6, and 0.5 when made again"),
        ("history.json", lambda rows: rows.clear(),
         "its value is [], and [{'epoch': 1, 'val_accuracy': 0.5}] when made again"),
    ],
)  # fmt: skip
def test_a_value_is_named(folders: tuple[Path, Path], name: str, change: Callable[[Any], object], said: str) -> None:
    changed(folders[0] / name, change)
    assert list(differences(*folders)) == [(name, said)]


def test_many_values_are_counted(folders: tuple[Path, Path]) -> None:
    changed(folders[0] / "run.json", lambda run: run.update({f"x{i}": i for i in range(9)}))
    ((_, said),) = differences(*folders)
    assert said.startswith("x0 is 0, and 'absent' when made again, x1") and said.endswith(", and 6 more")


def test_the_same_values_in_another_spelling_are_told(folders: tuple[Path, Path]) -> None:
    (folders[0] / "run.json").write_text(json.dumps(RECORD))
    assert list(differences(*folders)) == [("run.json", "has the same values in other bytes")]


def test_a_run_may_lack_scores_that_came_later_but_not_have_others(folders: tuple[Path, Path]) -> None:
    changed(folders[0] / "run.json", lambda run: run["result"].pop("predict_flops"))
    assert not list(differences(*folders))
    changed(folders[0] / "run.json", lambda run: run["result"].pop("test_accuracy"))
    assert [name for name, _ in differences(*folders)] == ["run.json"]


def test_numbers_of_tensors_are_counted(folders: tuple[Path, Path]) -> None:
    file = folders[0] / "weights.safetensors"
    cases: list[tuple[dict[str, Any], str]] = [
        ({**TENSORS, "a": np.array([1, 2, 4], np.float32)}, "2 of 3 numbers in a"),
        ({**TENSORS, "b": np.zeros(4, np.float32)}, "b is float32 (4,), and float32 (2, 2) when made again"),
        ({**TENSORS, "b": np.zeros((2, 2))}, "b is float64 (2, 2), and float32 (2, 2) when made again"),
        ({"a": TENSORS["a"]}, "b is in one of the two only"),
    ]
    for tensors, said in cases:
        safetensors.numpy.save_file(tensors, file)
        assert list(differences(*folders)) == [(file.name, said)]
    safetensors.numpy.save_file(TENSORS, file, metadata={"by": "hand"})
    assert list(differences(*folders)) == [(file.name, "has the same numbers in other bytes")]


def test_of_pictures_the_pixels_count(folders: tuple[Path, Path]) -> None:
    file = folders[0] / "transformer.png"
    with Image.open(file) as opened:
        picture = opened.copy()
    picture.save(file, compress_level=0)
    assert file.read_bytes() != (folders[1] / file.name).read_bytes()
    assert not list(differences(*folders))
    picture.putpixel((1, 2), (9, 9, 9))
    picture.save(file)
    assert list(differences(*folders)) == [(file.name, "1 of 16 pixels")]


def test_of_files_that_one_lacks_only_the_ledgers_own_count(folders: tuple[Path, Path]) -> None:
    (folders[0] / "weights.safetensors").unlink()
    assert not list(differences(*folders))
    (folders[1] / "history.json").unlink()
    assert [name for name, _ in differences(*folders)] == ["history.json"]
