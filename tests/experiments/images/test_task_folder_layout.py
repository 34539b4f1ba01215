"""`folder:PATH`: which folders are taken for the training and test parts and which for classes, and that it is said."""

import shutil
import unicodedata
from pathlib import Path

import pytest

from experiments.images.tasks import Task
from experiments.images.tasks.image_files.layout import part_of
from tests.support.image_folders import CLASSES, load, make_classes, make_parts, pixels_of, refusal, save


def facts(task: Task) -> dict[str, str]:
    return dict(task.reading.facts)


def renamed(root: Path, **names: str) -> Path:
    for part, name in names.items():
        (root / part).rename(root / name)
    return root


def test_ordinary_folders_are_read_as_ever(tmp_path: Path) -> None:
    """The hashes are those of versions that knew train/ and test/ only: results in ledgers depend on them."""
    parts, classes = make_parts(tmp_path / "a"), make_classes(tmp_path / "b")
    save(parts / "train/bee/wide.png", pixels_of(7, 16, 24))
    assert load(parts, tmp_path / "cache").content_hash == PARTS_HASH
    task = load(classes, tmp_path / "cache")
    assert task.content_hash == CLASSES_HASH
    assert facts(task)["Parts"] == "one folder a class, each split 80/20 into training and test by a fixed seed"


PARTS_HASH = "b1d0f033cbe3e7f6a4f09d5d40a0735009580561a8562ceea4dfc6353aa59fe1"
CLASSES_HASH = "8c3c4b5acb5bfa4a0e6908b0243542db88e7cfab4cae2d0470072a0da7f45cba"


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("seg_train", "seg_test"),
        ("training_set", "test_set"),
        ("train_images", "test_images"),
        ("Train-2020", "Test-2020"),
        ("trn", "tst"),
        ("trainData", "testData"),
        ("pets.train", "pets.test"),
        ("train", "Testing"),
    ],
)
def test_parts_are_known_by_their_names(train: str, test: str, parts: Path, tmp_path: Path) -> None:
    expected = load(parts, tmp_path / "cache").content_hash
    task = load(renamed(parts, train=train, test=test), tmp_path / "cache")
    assert (task.classes, task.content_hash) == (CLASSES, expected)
    assert facts(task)["Parts"] == f"training from {train}/, test from {test}/, by their names"
    assert not task.reading.warnings


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("val", "val"), ("Valid", "val"), ("validation-set", "val"), ("dev", "val"), ("eval", "val"),
        ("trainval", "train"), ("train2017", "train"), ("constraint", ""), ("invalid", ""), ("latest", ""),
        ("trainer", ""), ("train_test_split", ""), ("cat", ""), ("valley", ""),
    ],
)  # fmt: skip
def test_words_for_parts(name: str, part: str) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize("third", ["val", "Validation", "valid"])
def test_a_third_part_is_not_read_and_that_is_a_warning(third: str, parts: Path, tmp_path: Path) -> None:
    expected = load(parts, tmp_path / "cache").content_hash
    shutil.copytree(parts / "test", parts / third)
    for _ in range(2):  # from the cache or not: the same
        task = load(parts, tmp_path / "other")
        assert task.content_hash == expected
        assert facts(task)["Not read"] == f"{third}/: a further part with 9 images"
        (warning,) = task.reading.warnings
        assert warning.startswith(
            f"The part {third}/ with 9 images is not read: validation images are taken from train/"
        )


def test_validation_serves_as_test_where_there_is_none(parts: Path, tmp_path: Path) -> None:
    expected = load(parts, tmp_path / "cache").content_hash
    task = load(renamed(parts, test="val"), tmp_path / "cache")
    assert task.content_hash == expected
    assert facts(task)["Parts"] == "training from train/, test from val/, by their names"
    assert task.reading.warnings[0].startswith("There is no test part with classes, so val/ serves as it")


def test_test_images_without_labels(parts: Path, tmp_path: Path) -> None:
    """As at Kaggle: they are no test part, and the validation images are, if there are any."""
    expected = load(parts, tmp_path / "cache").content_hash
    (parts / "test").rename(parts / "val")
    for i in range(4):
        save(parts / "test" / f"{i}.png", pixels_of(i))
    task = load(parts, tmp_path / "cache")
    assert task.content_hash == expected
    assert facts(task)["Not read"] == "test/: a further part with 4 images"
    assert len(task.reading.warnings) == 2
    shutil.rmtree(parts / "val")
    said = refusal(parts, tmp_path / "none")
    assert "'test' has images and no class folders, so they have no labels" in said
    assert f"name {str(parts / 'train')!r} instead" in said


def test_parts_that_are_not_clear_are_refused_with_the_ways_out(tmp_path: Path) -> None:
    root = renamed(make_parts(tmp_path / "images"), train="Training", test="Testing")
    (root / "Testing/cat").rename(root / "Testing/cats")
    said = refusal(root, tmp_path / "cache")
    assert "'Training' and 'Testing' look like parts, and have different classes" in said
    assert "'cat' only in Training/; 'cats' only in Testing/" in said
    assert "rename the two parts to train/ and test/" in said and "name the one folder that holds the classes" in said
    (root / "Testing/cats").rename(root / "Testing/cat")
    shutil.copytree(root / "Training", root / "train_more")
    assert "'Training', 'train_more' look like the same part" in refusal(root, tmp_path / "cache")
    shutil.rmtree(root / "train_more")
    renamed(root, Training="Validation")
    assert "has no training and test part, only 'Testing', 'Validation'" in refusal(root, tmp_path / "cache")
    flat = tmp_path / "flat"
    for part in ("Train", "Test"):
        for i in range(6):
            save(flat / part / f"{i}.png", pixels_of(i))
    said = "'Train' and 'Test' look like parts, and have no class folders; rename the two parts"
    assert said in refusal(flat, tmp_path / "cache")


def test_classes_that_are_called_like_parts_stay_classes(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images")
    for old, new in (("ant", "valid"), ("bee", "invalid"), ("cat", "train_station")):
        (root / old).rename(root / new)
    shutil.copytree(root / "valid", root / "bus_station")
    task = load(root, tmp_path / "cache")
    assert task.classes == ("bus_station", "invalid", "train_station", "valid")
    (said,) = task.reading.warnings
    assert said.startswith("The folders 'train_station', 'valid' are read as classes, although their names are those")
    (root / "valid").rename(root / "void")
    (said,) = load(root, tmp_path / "cache").reading.warnings
    assert said.startswith("The folder 'train_station' is read as a class, although its name is that of a part: if it")
    for i in range(10):
        shutil.copytree(root / "void", root / f"val{i}")
    (said,) = load(root, tmp_path / "cache").reading.warnings
    assert "The folders 'train_station', 'val0', 'val1', " in said and "'val6', ... (3 more) are read as" in said


def test_a_folder_that_only_wraps_another_is_entered(tmp_path: Path) -> None:
    inner = make_classes(tmp_path / "d/d")
    expected = load(inner, tmp_path / "cache").content_hash
    (tmp_path / "d/__MACOSX/d/ant").mkdir(parents=True)
    task = load(tmp_path / "d", tmp_path / "cache")
    assert task.content_hash == expected
    assert facts(task)["Parts"].startswith("in d/, the only folder in it: one folder a class")
    save(tmp_path / "d/1.png", pixels_of(1))
    assert "only one class, 'd'" in refusal(tmp_path / "d", tmp_path / "none")


def test_parts_that_wrap_a_folder_of_their_name_are_entered(parts: Path, tmp_path: Path) -> None:
    expected = load(parts, tmp_path / "cache").content_hash
    for part in ("train", "test"):
        (parts / part).rename(parts / "inner")
        (parts / f"seg_{part}").mkdir()
        (parts / "inner").rename(parts / f"seg_{part}/seg_{part}")
    save(parts / "seg_pred/seg_pred/1.png", pixels_of(1))
    task = load(parts, tmp_path / "cache")
    assert task.content_hash == expected
    assert facts(task)["Parts"].startswith("training from seg_train/seg_train/, test from seg_test/seg_test/")
    assert facts(task)["Not read"] == "seg_pred/: 1 image"


def test_the_same_folders_in_every_class_are_a_warning(tmp_path: Path) -> None:
    """Parts, folds or cameras whose names say nothing: their folders are the classes, most likely."""
    for fold in ("fold1", "fold2"):
        make_classes(tmp_path / "images" / fold)
    task = load(tmp_path / "images", tmp_path / "cache")
    assert task.classes == ("fold1", "fold2")
    assert task.reading.warnings[0].startswith("Every class folder holds the same folders ('ant', 'bee', 'cat')")
    save(tmp_path / "images/fold1/1.png", pixels_of(1))
    assert not load(tmp_path / "images", tmp_path / "cache").reading.warnings


SYSTEM = ("@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", ".ipynb_checkpoints")


@pytest.mark.parametrize("make", [make_parts, make_classes])
@pytest.mark.parametrize("name", SYSTEM)
def test_folders_of_the_system_hold_no_images_and_are_no_classes(name: str, make: object, tmp_path: Path) -> None:
    assert callable(make)
    root = make(tmp_path / "images")
    expected = load(root, tmp_path / "cache")
    for folder in {path.parent for path in root.rglob("*.png")} | {root, *root.glob("t*")}:
        for i in range(2):
            save(folder / name / "thumbnails" / f"{i}.png", pixels_of(900 + i))
        (folder / "Thumbs.db").write_text("")
    task = load(root, tmp_path / "cache")
    assert (task.classes, task.content_hash) == (CLASSES, expected.content_hash)
    assert "images in hidden folders and those of the system" in facts(task)["Not read"]
    assert ".db" not in facts(task)["Not read"] and not task.reading.warnings


def test_images_copied_from_a_system_with_other_unicode_forms_are_the_same(tmp_path: Path) -> None:
    found = []
    for form in ("NFC", "NFD"):
        root = make_classes(tmp_path / form)
        (root / "bee").rename(root / unicodedata.normalize(form, "café"))
        save(root / "ant" / unicodedata.normalize(form, "é.png"), pixels_of(901))
        save(root / "ant/ez.png", pixels_of(902))  # between the two forms
        found.append(load(root, tmp_path / "cache"))
    assert [task.classes for task in found] == [("ant", unicodedata.normalize("NFC", "café"), "cat")] * 2
    assert found[0].content_hash == found[1].content_hash


def test_names_that_differ_in_unicode_form_only(parts: Path, tmp_path: Path) -> None:
    composed, taken_apart = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))
    (parts / "train/bee").rename(parts / "train" / composed)
    (parts / "test/bee").rename(parts / "test" / taken_apart)
    if not (parts / "test" / taken_apart).exists() or (parts / "test" / composed).exists():
        pytest.skip("this file system knows one form only")
    task = load(parts, tmp_path / "cache")
    assert task.classes == (composed, "ant", "cat")
    assert task.num_by_class == ((3, 3, 3), (3, 3, 3))
    shutil.copytree(parts / "train" / composed, parts / "train" / taken_apart)
    said = refusal(parts, tmp_path / "none")
    assert f"class {composed!r} has two folders in train/" in said and "(NFC and NFD)" in said
