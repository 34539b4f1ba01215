"""Groups of images: they are whole in every part, however they are told, and what cannot be is refused."""

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.images.tasks import Task, load_task
from experiments.images.tasks.cache import content_hash, decoded, received
from experiments.images.whole_groups import choose_groups
from experiments.runs.images import fit_to_task, split
from experiments.runs.run import Job, Source, make_run
from experiments.study.plan import make_plan
from experiments.study.shown import image_facts, image_warnings, images_record
from experiments.study.study import load_study
from experiments.sweep.sweep import Sweep, check_same_task
from ledger.config import Protocol, RunConfig, run_key
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.support.image_folders import pixels_of, save
from tests.support.tiny_study import write_sweep

FORMS = ("folder", "csv:{root}.csv:specimen", r"name:^(\w+)-")


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[int], list[int], int, list[int]]:
    """Labels, groups, how many of the images are wanted, and an order of the groups."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60))
    labels, groups = (list(each) for each in zip(*pairs, strict=True))
    return labels, groups, draw(st.integers(0, len(pairs))), draw(st.permutations(range(13)))


def distance(labels_N: list[int], chosen_N: np.ndarray, num: int) -> float:
    """As the docstring has it: of the numbers of images of each class from their share, over the class's size."""
    total_K = np.bincount(labels_N, minlength=4)
    has_K = np.bincount(np.array(labels_N)[chosen_N], minlength=4)
    there = total_K > 0
    return float(((has_K - num * total_K / len(labels_N)) ** 2)[there] @ (1 / total_K[there]))


@given(labelled())
def test_chosen_groups_are_whole_leave_every_class_and_could_not_be_nearer(
    case: tuple[list[int], list[int], int, list[int]],
) -> None:
    labels, groups, num, order = case
    chosen_N = choose_groups(labels, groups, order, num)
    taken = {group for group, is_chosen in zip(groups, chosen_N, strict=True) if is_chosen}
    assert chosen_N.tolist() == [group in taken for group in groups]
    left = {label for label, is_chosen in zip(labels, chosen_N, strict=True) if not is_chosen}
    assert left == set(labels)
    if not num:
        assert not taken
    for group in set(groups) - taken:
        with_it_N = chosen_N | (np.array(groups) == group)
        rest = {label for label, is_chosen in zip(labels, with_it_N, strict=True) if not is_chosen}
        if rest == set(labels):
            assert distance(labels, with_it_N, num) >= distance(labels, chosen_N, num) - 1e-9
            if num:  # nor would it bring a class that is lacking
                assert {labels[i] for i in range(len(labels)) if groups[i] == group} <= {
                    labels[i] for i in np.flatnonzero(chosen_N)
                }


def test_groups_of_one_class_come_near_the_share_of_each_class() -> None:
    """As with crops of specimens: 4 classes of 150 images in groups of 10, a fifth of them."""
    labels_N, groups_N = np.arange(600) // 150, np.arange(600) // 10
    for seed in range(20):
        chosen_N = choose_groups(labels_N, groups_N, np.random.default_rng(seed).permutation(60), 120)
        assert np.bincount(labels_N[chosen_N]).tolist() == [30] * 4


def make(root: Path, classes: dict[str, int], per_group: int = 3, parts: tuple[str, ...] = ("",)) -> Path:
    """Folders CLASS/SPECIMEN/SPECIMEN-i.png, and beside the folder a table of these."""
    rows = ["file,weight,specimen"]
    for part in parts:
        for c, (name, num_groups) in enumerate(classes.items()):
            for g in range(num_groups):
                for i in range(per_group):
                    group = f"{name}{g:02}"
                    path = Path(part, name, group, f"{group}-{part}{i}.png")
                    save(root / path, pixels_of(10_000 * c + 100 * g + 10 * len(part) + i))
                    rows.append(f"{path},1.5,{group}")
    root.with_suffix(".csv").write_text("\n".join(rows))
    return root


def load_grouped(root: Path, group: str) -> Task:
    cache = root.parent / "cache"
    return load_task(f"folder:{root}", image_px=16, cache=cache, say=lambda line: None, group=group.format(root=root))


def group_of_pixels(root: Path) -> dict[bytes, str]:
    """Whose image has these pixels; read without the code under test."""
    from PIL import Image

    return {np.asarray(Image.open(path)).tobytes(): path.parent.name for path in root.rglob("*.png")}


def test_no_group_is_on_two_sides_whichever_way_it_is_told(tmp_path: Path) -> None:
    root = make(tmp_path / "specimens", {"ant": 9, "bee": 6, "cat": 5})
    tasks = [load_grouped(root, form) for form in FORMS]
    assert len({task.content_hash for task in tasks}) == 1
    assert len({task.content_hash for task in [*tasks, load_grouped(root, "")]}) == 2
    task, group_of = tasks[0], group_of_pixels(root)
    assert task.train.group_N is not None
    assert task.record()["groups"] == 16 == len(set(task.train.group_N.tolist()))
    of_train, of_test = (
        [group_of[pixels_HWC.tobytes()] for pixels_HWC in part.pixels_NHWC] for part in (task.train, task.test)
    )
    assert not set(of_train) & set(of_test)
    assert task.num_by_class == ((21, 15, 12), (6, 3, 3))  # the share of bees is 3.6 images
    protocol, _ = fit_to_task(Protocol(val_images=100), task)
    assert (protocol.train_images, protocol.val_images) == (39, 9)
    splits = []
    for seed in range(6):
        train, val = (
            index_N.tolist()
            for index_N in split(torch.from_numpy(np.array(task.train.labels_N)), protocol, seed, task.train.group_N)
        )
        assert not {of_train[i] for i in train} & {of_train[i] for i in val}
        assert len({*train, *val}) == len(train) + len(val) <= 48
        assert set(task.train.labels_N[val]) == set(task.train.labels_N[train]) == {0, 1, 2}
        splits.append(val)
    assert all(one != other for one, other in pairwise(splits))


def test_facts_say_how_many_groups_there_are_and_the_largest(tmp_path: Path) -> None:
    root = make(tmp_path / "specimens", {"ant": 9, "bee": 6})
    for i in range(4):
        save(root / f"bee/bee03/bee03-x{i}.png", pixels_of(777 + i))
    facts = dict(load_grouped(root, "folder").reading.facts)
    assert facts["Groups"].startswith("15 by the folder below the class, the largest of 7 of 49 images; ")
    task = load_grouped(root, r"name:-(.+)\.png")  # three specimens share no name, and each name is in both classes
    assert dict(task.reading.facts)["Groups"].startswith(r"7 by the pattern '-(.+)\.png' in file names")
    (warning,) = load_grouped(root, "name:(.*)").reading.warnings
    assert (
        warning == "Every image is a group of its own (by the pattern '(.*)' in file names): nothing is kept together."
    )
    assert "Groups" not in dict(load_grouped(root, "").reading.facts)


def test_a_terminal_shows_files_of_a_group_and_a_warning_counts_those_of_several_classes(tmp_path: Path) -> None:
    root = make(tmp_path / "specimens", {"ant": 9, "bee": 6, "cat": 4})
    task = load_grouped(root, r"name:(\d+)-")  # one group of ant03 and bee03
    terminal = dict(image_facts(task, Protocol()))["Groups"]
    assert terminal.startswith(dict(task.reading.facts)["Groups"]) and terminal.endswith(
        "; in the largest 'ant/ant00/ant00-0.png', 'ant/ant00/ant00-1.png'; in one of several classes "
        "'ant/ant00/ant00-0.png', 'bee/bee00/bee00-0.png'"
    )
    recorded = images_record(task, fit_to_task(Protocol(), task)[0])
    assert ".png" not in str(recorded["facts"][1]), "files may be called like people"
    assert recorded["warnings"][0].startswith("6 of 9 groups have images of several classes. One specimen is seldom ")
    of_one = load_grouped(root, "folder")
    assert dict(image_facts(of_one, Protocol()))["Groups"].endswith("'ant/ant00/ant00-0.png', 'ant/ant00/ant00-1.png'")
    assert not of_one.reading.warnings


def test_groups_in_both_of_the_users_own_parts_are_a_warning(tmp_path: Path) -> None:
    root = make(tmp_path / "specimens", {"ant": 4, "bee": 4}, parts=("train", "test"))
    table = root.with_suffix(".csv")
    table.write_text("\n".join(row for row in table.read_text().split() if not re.match("test.*03", row)))
    for group in ("ant03", "bee03"):
        for path in (root / f"test/{group[:3]}/{group}").iterdir():
            path.unlink()
    for form in FORMS:
        (warning,) = load_grouped(root, form).reading.warnings
        assert warning.startswith(
            "6 groups lie in training and in test: 18 of 18 test images have others of their group in training, and a"
            " score on these may show memory."
        )


def test_groups_stay_with_the_images_in_the_cache_and_on_their_way(tmp_path: Path) -> None:
    root = make(tmp_path / "specimens", {"ant": 9, "bee": 6})
    task = load_grouped(root, "folder")
    again = load_grouped(root, "folder")
    np.testing.assert_array_equal(again.train.group_N, task.train.group_N)
    sent = decoded(task)
    there = received(task.content_hash, tmp_path / "elsewhere", lambda: sent)
    np.testing.assert_array_equal(there.train.group_N, task.train.group_N)
    other = sent._replace(train=replace(sent.train, group_N=None))
    assert content_hash(other.classes, other.train, other.test) != task.content_hash
    with pytest.raises(ValueError, match="not those that were sent"):
        received(task.content_hash, tmp_path / "nowhere", lambda: other)
    (groups,) = (tmp_path / "cache").glob("*/train_groups.npy")
    for break_it in (groups.unlink, lambda: np.save(groups, np.full(len(task.train), 10**12))):
        break_it()
        np.testing.assert_array_equal(load_grouped(root, "folder").train.group_N, task.train.group_N)


def test_parts_that_groups_make_other_than_planned_are_named(tmp_path: Path) -> None:
    root = make(tmp_path / "specimens", {"ant": 9, "bee": 9, "cat": 2})
    task = load_grouped(root, "folder")
    size, lacking = image_warnings(task, fit_to_task(Protocol(), task)[0])
    assert size == "Groups are so large that there are 6 validation images with the first seed, not 9."
    assert lacking.startswith("None of the 6 validation images is of class 'cat', of too few images or groups: ")


def refused(root: Path, group: str) -> str:
    cache = root.parent / "cache"
    with pytest.raises(UserError) as error:
        load_task(f"folder:{root}", image_px=16, cache=cache, say=lambda line: None, group=group)
    assert "\n" not in str(error.value)
    assert not cache.exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (
            "nam:x",
            "'nam:x' is not of the form folder, folder:LEVEL, csv:FILE:COLUMN or name:PATTERN; did you mean 'name'?",
        ),
        ("folder:", "'folder:' is not of the form"),
        ("csv", "'csv' is not of the form"),
        ("csv:patients", "'csv:patients' is not of the form csv:FILE:COLUMN"),
        ("folder:0", "'folder:0' names no level"),
        ("folder:2", "to all 60 images, which lack a folder below the class at level 2: 'ant/ant00/ant00-0.png', "),
        (r"name:^(\d+)", r"'name:^(\d+)' gives no group to all 60 images, which lack a name (with its"),
        (r"name:ant/(\d+)", " ending, without folders) that it matches: 'ant00-0.png', 'ant00-1.png', 'ant00-2.png', "),
        (
            "name:^(ant..)",
            "gives no group to 33 of 60 images, which lack a name (with its ending, without folders) that it matches:"
            " 'bee00-0.png', 'bee00-1.png', ",
        ),
        ("name:^ant", "'name:^ant' needs one pair of brackets, around what names the group; it has 0"),
        ("name:^(a)(n)", "it has 2"),
        ("name:(", "'name:(' is no regular expression: missing )"),
        (
            "name:^(...)",
            "class 'ant' is in one group only, 'ant' (by the pattern '^(...)' in file names), and cannot be",
        ),
    ],
)
def test_what_groups_cannot_be_is_refused_in_a_line(group: str, message: str, tmp_path: Path) -> None:
    assert message in refused(make(tmp_path / "specimens", {"ant": 9, "bee": 6, "cat": 5}), group)


@pytest.mark.parametrize(
    ("lines", "column", "message"),
    [
        ("", "specimen", "has no rows below the names of its columns"),
        ("file,specimen\n", "specimen", "has no rows below the names of its columns"),
        ("{all}", "specimn", "names no column of the file; did you mean 'specimen'?"),
        (
            "{all}\nant/ant77.png,1,q\nbee.png,1,q",
            "specimen",
            "names 2 of 62 files that are not there, first 'ant/ant77",
        ),
        (
            "{all}\n./ant/ant00/ant00-1.png,1,other",
            "specimen",
            "has './ant/ant00/ant00-1.png' twice, in groups 'ant00' and",
        ),
        ("{all}\nbee.png", "specimen", "has a row of 1 fields, 'bee.png', and 3 columns"),
        (
            "file,weight,specimen\nant00-0.png,1,a",
            "specimen",
            "gives no group to 59 of 60 images, which lack a value of 's",
        ),
        ("\x00\xff", "specimen", "is not text in UTF-8"),
        (None, "specimen", "cannot be read: No such file or directory"),
    ],
)
def test_a_table_that_does_not_fit_the_images_is_refused_in_a_line(
    lines: str | None, column: str, message: str, tmp_path: Path
) -> None:
    root = make(tmp_path / "specimens", {"ant": 9, "bee": 6, "cat": 5})
    table = tmp_path / "patients.csv"
    if lines is not None:
        table.write_bytes(lines.replace("{all}", root.with_suffix(".csv").read_text()).encode("latin-1"))
    assert message in refused(root, f"csv:{table}:{column}")


def test_a_table_may_name_files_alone_and_come_from_a_spreadsheet(tmp_path: Path) -> None:
    root = make(tmp_path / "specimens", {"ant": 9, "bee": 6})
    save(root / "loose.png", pixels_of(5))  # which lies there and is not read
    rows = [path.rpartition("/")[2].split(",") for path in root.with_suffix(".csv").read_text().splitlines()[1:]]
    lines = ["\ufeffName;specimen", *(f"{name};{specimen}" for name, _, specimen in rows), "loose.png;none", ""]
    table = tmp_path / "excel:1.csv"
    table.write_text("\r\n".join(lines), encoding="utf-8")
    assert load_grouped(root, f"csv:{table}:specimen").content_hash == load_grouped(root, "folder").content_hash
    save(root / "bee/ant00-0.png", pixels_of(6))
    with pytest.raises(
        UserError, match=r"names 'ant00-0.png', and there are 2 images of that name; write their folders"
    ):
        load_grouped(root, f"csv:{table}:specimen")


def test_only_folders_have_groups(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="group: 'folder' is about a folder of images, and the task is 'sprites'"):
        load_task("sprites", image_px=16, cache=tmp_path, say=lambda line: None, group="folder")


def test_where_nothing_can_be_validated_on_that_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "specimens", {"ant": 2, "bee": 2})
    task = load_grouped(root, "folder")
    assert Counter(task.train.labels_N.tolist()) == {0: 3, 1: 3}
    with pytest.raises(
        UserError, match="has too few groups to validate on: each has all training images of some class"
    ):
        fit_to_task(Protocol(), task)
    assert fit_to_task(Protocol(val_images=0), task)[0].train_images == 6


def test_a_run_holds_out_whole_groups_and_says_how_many_there_are(tmp_path: Path) -> None:
    root, runs = make(tmp_path / "specimens", {"ant": 9, "bee": 6}), Ledger(tmp_path / "runs")
    task, spec = load_grouped(root, "folder"), f"folder:{root}"
    protocol = Protocol(image_px=16, epochs=1, batch_size=16, precision="fp32", device="cpu", robustness="none")
    config = RunConfig("cnn@cnn4", stage="trial", protocol=fit_to_task(protocol, task)[0])
    job = Job(config, run_key(config, task.content_hash), Source(spec, "", 16, tmp_path / "cache"), runs.root)
    with pytest.raises(ValueError, match="the images have changed"):
        make_run(job, torch.device("cpu"))
    make_run(replace(job, source=replace(job.source, group="folder")), torch.device("cpu"))
    record = runs.read(job.key)
    assert record["task"]["groups"] == 12
    assert (record["result"]["num_train_images"], record["result"]["num_val_images"]) == (29, 6)  # planned: 29, 7


def test_a_study_says_groups_in_its_file_or_on_the_command_line_and_goes_on_with_them(tmp_path: Path) -> None:
    root, ledger = make(tmp_path / "specimens", {"ant": 12, "bee": 9}), Ledger(tmp_path / "runs")
    spec = f"folder:{root}"
    plain = load_study(write_sweep(tmp_path), "smoke", task=spec)
    named = load_study(write_sweep(tmp_path), "smoke", task=spec, group="folder")
    filed = load_study(write_sweep(tmp_path, task=spec, group="folder"), "smoke")
    without, plan, other = (
        make_plan(study, label="", cache=tmp_path / "cache", say=lambda line: None) for study in (plain, named, filed)
    )
    assert plan.task.content_hash == other.task.content_hash != without.task.content_hash
    assert plan.source.group == other.source.group == "folder"
    ledger.write_study(plan.name, Sweep(plan, ledger, store=False).about)
    assert ledger.read_study(plan.name)["source"]["group"] == "folder"
    assert "group" not in Sweep(without, ledger, store=False).about["source"]
    check_same_task(ledger, plan)
    with pytest.raises(
        UserError, match="has 17 groups of training images, and now there are none; give GROUP= as then"
    ):
        check_same_task(ledger, without)
