"""The contact sheet: what it shows is what runs are given, and what it leaves out is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.images.contact_sheet import Group, Row, cell_px, draw_sheet
from experiments.images.tasks import Task
from experiments.images.tasks.folder import training_files
from experiments.runs.images import to_device
from experiments.study import look
from experiments.study.arms import check_arms
from experiments.study.plan import load
from experiments.study.study import Study, load_study
from experiments.terminal.cli import main
from tests.support.image_folders import make_classes, pixels_of, save
from tests.support.project import ROOT

VARIANTS = ", ".join(f"{{variant: {name}, baseline: cnn}}" for name in ("cnn", "cnn+rotate", "stn_affine+rotate"))


def study_of(root: Path, cache: Path, *given: str) -> tuple[Study, Task]:
    keys = ["claims=", f"variants=[{VARIANTS}]", "search.extras=", "protocol.image_px=16", *given]
    study = load_study(ROOT / "sweep.yaml", "smoke", task=f"folder:{root}", given=keys)
    return study, load(study, label="", cache=cache, say=lambda line: None).task


def rows_of(study: Study, task: Task, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Group], dict[str, Row]]:
    """What is drawn: groups, and rows by their captions."""
    drawn: list[Any] = []
    monkeypatch.setattr(look, "draw_sheet", lambda *arguments: drawn.extend(arguments))
    look.contact_sheet(study, task, check_arms(study), whole_files=True)
    return drawn[1], {row.caption: row for row in drawn[2]}


def test_rows_are_what_runs_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, task = study_of(make_classes(tmp_path / "images"), tmp_path / "cache", "poses=[upright,R]", "test_pose=")
    groups, rows = rows_of(study, task, monkeypatch)
    assert groups == [Group(f"{name} (8 images)", 4) for name in ("ant", "bee", "cat")]
    index_N = np.concatenate([np.flatnonzero(task.train.labels_N == label)[[0, 2, 5, 7]] for label in range(3)])
    files = training_files(str(tmp_path / "images"), "")
    assert [np.array_equal(np.asarray(Image.open(files[i])), task.train.pixels_NHWC[i]) for i in index_N] == [True] * 12
    own, plain, turned_copies, posed, posed_copies = rows.values()
    assert list(rows) == [
        "as they are",
        "as networks see them: 16 x 16 px",
        "under the pose upright, +rotate, as shown in training (another draw each time)",
        "under the pose R: turned images",
        "under the pose R, +rotate, as shown in training (another draw each time)",
    ]
    assert np.array_equal(own.pictures, task.train.pixels_NHWC[index_N])
    assert np.array_equal(plain.pictures, task.train.pixels_NHWC[index_N])
    under_r = to_device(task.train, "R", torch.device("cpu"), part="train").pixels_NHWC[torch.from_numpy(index_N)]
    assert np.array_equal(posed.pictures, under_r.numpy())
    for copies, of in ((turned_copies, plain), (posed_copies, posed)):
        assert all(not np.array_equal(one, other) for one, other in zip(copies.pictures, of.pictures, strict=True))


def test_what_is_cut_off_lies_outside_of_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 bits in 16, and grey: as bright as the network's own images."""
    for name in ("bolt", "nut"):
        for i in range(5):
            path = tmp_path / f"images/{name}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((90, 120), 2048 + i, np.uint16)).save(path)
    cropped, task = study_of(tmp_path / "images", tmp_path / "cache", "protocol.fit=crop")
    _, rows = rows_of(cropped, task, monkeypatch)
    own, seen, *_ = rows.values()
    assert own.caption == "as they are; what lies outside of the frame is not read"
    assert seen.caption == "as networks see them: 16 x 16 px, the middle square"
    assert own.pictures[0].shape == (72, 96, 3), "as large as its cell"
    assert own.pictures[0][36, 48].tolist() == [127] * 3 == seen.pictures[0][8, 8].tolist() * 3
    assert own.pictures[0][36, 12].tolist() == list(look._FRAME) and own.pictures[0][36, 5].min() > 150
    padded, task = study_of(tmp_path / "images", tmp_path / "cache", "protocol.fit=pad")
    _, rows = rows_of(padded, task, monkeypatch)
    assert list(rows)[:2] == ["as they are", "as networks see them: 16 x 16 px, between bars"]


def test_tests_poses_and_what_is_left_out_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(30):
        for k in range(5):
            save(tmp_path / f"images/{'花' if i == 29 else f'c{i:02}'}/{k}.png", pixels_of(10 * i + k))
    study, task = study_of(tmp_path / "images", tmp_path / "cache", "poses=[upright]", "test_pose=R")
    _, notes = look.contact_sheet(study, task, check_arms(study), whole_files=True)
    assert notes == [
        "The sheet has 12 of 30 classes, evenly taken from all.",
        "Classes whose names have other letters than Latin ones have their numbers instead.",
    ]
    monkeypatch.setattr(look, "MAX_ROWS", 3)
    _, (_, left, _) = look.contact_sheet(study, task, check_arms(study), whole_files=True)
    assert left == "Left out are 2 rows of further poses and policies."
    monkeypatch.undo()
    groups, rows = rows_of(study, task, monkeypatch)
    assert len(groups) == 12 and groups[-1].caption == "class 30 (4 images)"
    assert list(rows)[-1] == "tested under R: turned images"


def test_each_picture_stands_in_its_place() -> None:
    colours = [(15 * i, 7, 99) for i in range(14)]
    wide = Row("wide", [np.full((8, 16, 3), colour, np.uint8) for colour in colours])
    grey = Row("grey", [np.full((16, 16, 1), 130, np.uint8)] * 14)
    sheet = np.asarray(draw_sheet("title", [Group("a", 7), Group("b", 7)], [wide, grey], 96))
    places = [np.argwhere((sheet == colour).all(2)) for colour in colours]
    ys, xs = np.array([place.mean(0) for place in places]).T
    assert {len(place) for place in places} == {96 * 48} and (sheet == 130).all(2).sum() >= 14 * 96**2
    assert (np.diff(xs[:7]) == 100).all() and (np.diff(xs[7:]) == 100).all(), "columns, from left to right"
    assert len(set(ys[:7])) == len(set(ys[7:])) == 1 and ys[7] > ys[0], "and groups below each other"


def test_the_command_says_what_it_read_and_where_the_sheet_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "500")
    root, reports = make_classes(tmp_path / "images"), tmp_path / "reports"
    asked = ["look", "--data", str(root), "--sweep", str(ROOT / "sweep.yaml"), "--runs", str(tmp_path / "runs")]
    assert main([*asked, "--budget", "smoke", "--reports", str(reports), "--set", "protocol.image_px=16"]) == 0
    said = capsys.readouterr().out
    for words in ("ant 8/2, bee 8/2, cat 8/2", "Sizes  all 16 x 16 px", "Modes  RGB 30", "Values", "Largest"):
        assert words in said
    (sheet,) = reports.rglob("*.png")
    assert str(sheet) in said and sheet.name == "contact-sheet.png"
    assert Image.open(sheet).width > 1000
    assert not (tmp_path / "runs").exists()
    assert main([*asked[:2], str(tmp_path / "none"), *asked[3:], "--budget", "smoke"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_image_that_fills_the_cell_is_shown_smaller(tmp_path: Path) -> None:
    big = Row("big", [np.zeros((500, 300, 3), np.uint8)])
    assert draw_sheet("", [Group("a", 1)], [big], cell_px(1024)).height < 400


def test_the_group_of_an_arm_is_that_of_its_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that draws its images' poses anew shows them under other poses than they have for good."""
    study, task = study_of(make_classes(tmp_path / "images"), tmp_path / "cache")
    variants = {"cnn": "cnn", "cnn+posed": "cnn"}
    _, rows = rows_of(replace(study, variants=variants, poses=("R",)), task, monkeypatch)
    *_, posed, anew = rows.values()
    assert anew.caption.startswith("+posed")
    assert all(not np.array_equal(one, other) for one, other in zip(posed.pictures, anew.pictures, strict=True))
