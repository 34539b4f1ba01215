"""`folder:PATH`: what files are by their first bytes, and what is named by them: companions, links, archives."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from experiments.images.tasks import folder as folder_module
from experiments.images.tasks.image_files.walk import ImageFile
from tests.experiments.images.test_task_folder_reading import told, warning
from tests.support.image_folders import encoded, load, make_classes, make_parts, pixels_of, refusal, save


def small(kind: str) -> bytes:
    return encoded(Image.fromarray(pixels_of(1)), kind)


NOT = "not an image (JPEG, PNG, BMP, WEBP, GIF, TIFF)"
CONVERT = "which is not decoded: convert it to PNG or JPEG"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", f"{NOT} but an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", f"{NOT} but a pointer of Git LFS: fetch it"),
        (b"\n<!DOCTYPE html><html>404</html>", f"{NOT} but a web page"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', f"{NOT} but an SVG drawing"),
        (b"%PDF-1.7", f"{NOT} but a PDF"),
        (b"PK\x03\x04", f"{NOT} but a zip archive: unpack it"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", f"HEIC, {CONVERT}"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", f"AVIF, {CONVERT}"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", f"JPEG 2000, {CONVERT}"),
        (b"\x89PNG\r\n\x1a\n", f"{NOT} but the beginning of a PNG: the file is damaged"),
        (b"II*\0\x08\0\0\0", f"{NOT} but the beginning of a TIFF: the file is damaged"),
        (b"some text", NOT),
    ],
)
def test_what_is_not_an_image_is_named(data: bytes, said: str, parts: Path, tmp_path: Path) -> None:
    (parts / "train/ant/x.jpg").write_bytes(data)
    assert f"1 of 19 images cannot be read, first 'train/ant/x.jpg': {said}" in refusal(parts, tmp_path / "none")


@pytest.mark.parametrize(
    ("suffix", "named"), [("", "without an extension"), (".JPG ", "'.jpg '"), (".happy", ".happy")]
)
def test_images_whose_names_do_not_say_so(suffix: str, named: str, classes: Path, tmp_path: Path) -> None:
    (classes / "ant/README").write_text("read me")
    for i in range(6):
        (classes / f"ant/x{i}{suffix}").write_bytes(small("JPEG"))
    num = 7 if not suffix else 6
    task = load(classes, tmp_path / "cache")
    assert f"class 'ant': {num} {named} (JPEG)" in told(task)["Not read"]
    said = warning(task, "Files of formats that are not decoded are left out")
    assert f"{num} {named} (JPEG) of class 'ant'" in said and "only need its extension" in said
    for path in classes.glob("ant/*.png"):
        path.unlink()
    assert f"class 'ant' has no images; it has {num} {named} (JPEG)" in refusal(classes, tmp_path / "none")
    for path in classes.rglob("*.png"):
        path.unlink()
    said = refusal(classes, tmp_path / "none")
    assert "has no images in class folders" in said and f"it has {num} {named} (JPEG): convert these to PNG" in said


def test_files_without_an_extension_that_are_no_images(classes: Path, tmp_path: Path) -> None:
    (classes / "ant/LICENSE").write_text("x")
    task = load(classes, tmp_path / "cache")
    assert told(task)["Not read"] == "files that are not images: 1 without an extension" and not task.reading.warnings


def test_images_beside_no_class_folders(tmp_path: Path) -> None:
    for i in range(6):
        save(tmp_path / f"flat/cat.{i}.jpg", pixels_of(i))
    said = refusal(tmp_path / "flat", tmp_path / "none")
    assert "it has 6 .jpg outside such folders: make a folder for each class and move them there" in said


def test_a_hidden_folder_among_the_classes_is_named(tmp_path: Path) -> None:
    root = make_classes(tmp_path / "images", 50)
    save(root / ".dog/1.png", pixels_of(1))
    assert told(load(root, tmp_path / "cache"))["Not read"] == (
        "1 image in hidden folders and those of the system (.dog)"
    )


def test_a_scan_passes_files_and_hidden_folders_once(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(classes / ".dog/1.png", pixels_of(1))
    seen, scandir = list[Path](), os.scandir

    def watched(path: Path) -> Iterator[os.DirEntry[str]]:
        seen.append(Path(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watched)
    _, parts, *_ = folder_module._scan(classes)
    files = parts["train"]
    assert seen.count(classes / ".dog") == 1
    passes: list[None] = []

    class Watched(list[ImageFile]):
        def __iter__(self) -> Iterator[ImageFile]:
            passes.append(None)
            return super().__iter__()

    folder_module._split(Watched(files), "here")
    assert len(passes) == 1  # not one for each class


def test_addresses_and_archives_are_to_be_unpacked_first(tmp_path: Path) -> None:
    for address in ("https://example.org/cats.zip", "s3://bucket/cats", "hf://datasets/x"):
        assert "is an address: download its images, unpack them" in refusal(address, tmp_path / "none")
    for name in ("cats.zip", "cats.tar.gz", "cats.TGZ", "cats.7z"):
        (tmp_path / name).write_bytes(b"x")
        assert "is an archive: unpack it, and name the folder" in refusal(tmp_path / name, tmp_path / "none")
    assert refusal(tmp_path / "none.zip", tmp_path / "none").endswith("does not exist")


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("{}_mask.png", "_mask"), ("{}-seg.png", "-seg"), ("{}_gt.PNG", "_gt"), ("{}_label.png", "_label"),
        ("{}_segmentation.png", "_segmentation"), ("mask_{}.png", "mask_"), ("{}_mask_1.png", "_mask"),
        ("masks/{}.png", "masks/"), ("ground_truth/{}.bmp", "ground_truth/"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [make_parts, make_classes])
def test_masks_among_the_pictures_are_a_warning(make: object, name: str, mark: str, tmp_path: Path) -> None:
    assert callable(make)
    root = make(tmp_path / "images")
    pictures = sorted(root.rglob("*.png"))
    for i, path in enumerate(pictures):
        save(path.parent / name.format(path.stem), pixels_of(900 + i))
    said = warning(load(root, tmp_path / "cache"), f"{len(pictures)} of {2 * len(pictures)} images are named as")
    assert f"({mark!r})" in said and "move them out of the class folders" in said


def test_names_that_only_sound_like_masks(classes: Path, tmp_path: Path) -> None:
    shutil.move(classes / "ant", classes / "masks")
    for i, name in enumerate(("carnival mask", "gt_racing", "01_seg")):  # the last has a picture, and is one of many
        save(classes / f"bee/{name}.png", pixels_of(900 + i))
    for i in range(10):
        (classes / f"cat/{i:02}.png").rename(classes / f"cat/{i:02}_label.png")
    assert not load(classes, tmp_path / "cache").reading.warnings
