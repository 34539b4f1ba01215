"""`report` of several studies: what they share, ranks that hold for what they say, and refusals."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from experiments.terminal.cli import main
from tests.support.browser import PROGRAM, Browser
from tests.support.command_line import contents
from tests.support.several_studies import Accuracies, write_task

SHAPES: Accuracies = {
    "cnn": [0.60, 0.61, 0.62, 0.60, 0.61],
    "cnn+affine": [0.70, 0.71, 0.69, 0.70, 0.72],
    "stn_affine": [0.74, 0.75, "diverged", 0.74, 0.76],
    "oracle_unwarp": [0.93, 0.94, 0.93, 0.92, 0.93],
}
PHOTOS: Accuracies = {
    "late": [0.5, 0.5, 0.5, 0.5, 0.5],
    "stn_affine": [0.80, 0.81, 0.80, 0.82, 0.80],
    "cnn": [0.81, 0.82, 0.80, 0.81, 0.81],
    "cnn+affine": [0.86, 0.87, 0.86, 0.85, 0.86],
    "oracle_unwarp": [0.87, 0.88, 0.87, 0.87, 0.88],
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_task(tmp_path / "runs", "shapes", SHAPES, task="Sprites")
    write_task(tmp_path / "runs", "photos", PHOTOS, task="Photos")
    return tmp_path / "runs"


def report(runs: Path, *studies: str) -> int:
    given = [word for study in studies for word in ("--study", study)]
    return main(["report", f"--runs={runs}", f"--reports={runs.parent / 'reports'}", *given])


def page_of(runs: Path, *studies: str) -> str:
    """Its text, without the looks."""
    page = (runs.parent / "reports" / "+".join(studies) / "report.html").read_text()
    return re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.S)


def test_what_all_studies_have_stands_side_by_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(runs, "shapes photos") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 studies of 2 tasks, 4 variants in all of them" in said
    assert "In these 2 studies, as they were trained, cnn+affine ranks highest: mean rank 1.50 of 3. This" in said
    assert "This holds for these 2 tasks only. What others would show cannot be told from fewer than 6" in said
    assert "Left out, since not all have completed runs of them: late (in Photos)." in said
    out = runs.parent / "reports/shapes+photos"
    names = {path.name for path in out.iterdir()}
    tables = {
        f"{name}.{end}" for name in ("accuracy", "ranks", "profile", "studies") for end in ("csv", "html", "md", "tex")
    }
    assert names == {*tables, "profile.png", "profile.svg", "profile.pdf", "report.html"}
    accuracy: Any = pd.read_csv(out / "accuracy.csv").set_index(["study", "variant"])
    for study, variants in (("shapes", SHAPES), ("photos", PHOTOS)):
        for variant in ("cnn", "cnn+affine", "stn_affine", "oracle_unwarp"):
            scores = [score for score in variants[variant] if isinstance(score, float)]
            row = accuracy.loc[study, variant]
            half = stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores)
            assert row["test_accuracy"] == pytest.approx(sum(scores) / len(scores))
            assert row["test_accuracy_half_width"] == pytest.approx(half)
            assert row["num_seeds"] == len(scores) == len(row["run_keys"].split())
    assert "74.8 ± 1.5 (4 of 5)" in page_of(runs, "shapes", "photos")
    ranks: Any = pd.read_csv(out / "ranks.csv").set_index("variant")
    assert ranks["mean_rank"].to_dict() == {"cnn+affine": 1.5, "stn_affine": 2, "cnn": 2.5}, "the true pose has no rank"
    assert (ranks["seeds_low"] <= ranks["mean_rank"]).all() and "tasks_low" not in ranks
    assert "It is no confidence interval for the rank of the true means" in page_of(runs, "shapes", "photos")
    before = contents(out)
    assert report(runs, "shapes", "photos") == 0
    assert contents(out) == before


def test_scores_are_normalised_by_what_the_commonest_class_is_worth(runs: Path) -> None:
    """Of four equal classes; 0.625 is half of the way from 0.25 to 1."""
    assert report(runs, "shapes", "photos") == 0
    shares: Any = pd.read_csv(runs.parent / "reports/shapes+photos/profile.csv").set_index("variant")
    assert shares.loc["cnn", "above_50"] == (0 + 1) / 2
    assert shares.loc["stn_affine", ["above_50", "above_75"]].tolist() == [1, (0 + 0.2) / 2]


def test_a_study_that_has_not_learned_is_shown_and_never_ranked(runs: Path, capsys) -> None:
    few: dict[str, list[float | str | None]] = {name: [0.26, 0.27, 0.25, 0.26, 0.28] for name in SHAPES}
    write_task(runs, "leaves", few | {"cnn": [0.3] * 5}, task="Leaves", fit=0.3)
    assert report(runs, "shapes", "leaves", "photos") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "§ Leaves takes no part in ranks and profile: trained too short to tell: of its training images," in said
    assert "In these 2 studies, as they were trained" in said
    out = runs.parent / "reports/shapes+leaves+photos"
    assert "Leaves §, %" in (out / "accuracy.md").read_text()
    assert "leaves" not in (out / "ranks.csv").read_text().splitlines()[0]
    write_task(runs, "bark", few, task="Bark", fit=0.3)
    assert report(runs, "leaves", "bark") == 0
    page = page_of(runs, "leaves", "bark")
    assert "No mean ranks: the order of variants is known in no study." in page
    assert "Leaves §" in page and "highest" not in page and "ean rank " not in page and "Holm" not in page
    assert not (runs.parent / "reports/leaves+bark/ranks.csv").exists()


def test_one_seed_tells_no_order(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_task(runs, "once", {name: [0.7 + 0.01 * i] for i, name in enumerate(SHAPES)}, task="Once")
    assert report(runs, "shapes", "once", "photos") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "§ Once takes no part in ranks and profile: one seed tells no order." in said
    assert "In these 2 studies, as they were trained" in said


def test_comparisons_that_a_longer_training_could_turn_are_marked(runs: Path, capsys) -> None:
    """Ten points need an error of five on training images at most; stn_affine and cnn differ by less than two."""
    write_task(
        runs, "short", {name: PHOTOS[name] for name in ("cnn", "cnn+affine", "stn_affine")}, task="Short", fit=0.97
    )
    assert report(runs, "shapes", "short") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "‡ Short: a longer training could turn 3 of 3 comparisons of two variants there, and ranks with them." in said
    )
    assert "Short ‡" in page_of(runs, "shapes", "short") and "Sprites ‡" not in said


def test_the_same_images_at_other_sizes_are_one_task(runs: Path, capsys) -> None:
    for i in range(6):
        write_task(runs, f"s{i}", SHAPES, task="Sprites", budget=f"b{i}")
    assert report(runs, *(f"s{i}" for i in range(6))) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 studies of 1 task, 4 variants" in said and "This holds for this task only." in said
    assert "Sprites, b3" in page_of(runs, *(f"s{i}" for i in range(6)))


def test_six_tasks_may_speak_of_others(runs: Path) -> None:
    for i in range(6):
        write_task(runs, f"t{i}", SHAPES if i % 2 else PHOTOS, task=f"Task {i}")
    names = [f"t{i}" for i in range(6)]
    assert report(runs, *names) == 0
    ranks: Any = pd.read_csv(runs.parent / "reports" / "+".join(names) / "ranks.csv")
    assert (ranks["tasks_high"] - ranks["tasks_low"] > ranks["seeds_high"] - ranks["seeds_low"]).all()
    assert "only as far as these 6 are a fair sample" in page_of(runs, *names)


def test_a_study_at_two_poses_counts_at_each(runs: Path, capsys) -> None:
    write_task(runs, "two", SHAPES, task="Two", poses=("upright", "R"))
    assert report(runs, "two", "photos") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Two, upright" in said and "Two, R" in said and "In these 3 studies and poses" in said


def test_what_was_lost_is_not_finished_or_was_planned_anew_is_said(runs: Path, capsys) -> None:
    lost: Accuracies = {"cnn": [0.5, 0.6, 0.5], "cnn+affine": ["diverged"] * 3, "stn_affine": [0.7, None, 0.7]}
    nowhere: Accuracies = {"cnn": [0.5, 0.6, 0.5], "stn_affine": [0.7, 0.7, 0.7], "late": ["failed"] * 3}
    write_task(runs, "lost", lost, task="Lost", first={"num_finals": 2})
    write_task(runs, "nowhere", nowhere, task="Nowhere")
    assert report(runs, "lost", "nowhere") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The study lost is unfinished: runs are still missing" in said and "study nowhere is" not in said
    assert (
        "Left out, since not all have completed runs of them: cnn+affine (no run of it was completed in Lost); "
        "late (no run of it was completed in Nowhere)." in said
    )
    assert "° Lost: claims, seeds, training or search were changed after the study had begun" in said
    assert "Lost °" in page_of(runs, "lost", "nowhere") and "Nowhere °" not in said


@pytest.mark.parametrize(
    ("studies", "said"),
    [
        (["shapes", "photos", "shapes"], "study: shapes is there twice; name each study once"),
        (["shapes", "photo"], "study: 'photo' is not in .*; did you mean 'photos'?"),
        (["shapes", "planned"], "study: planned has no completed final run yet; the same sweep makes them"),
        (
            ["shapes", "others"],
            "study: no variant has final runs in all of them: Sprites has cnn, .*; Others has lenet",
        ),
        (
            ["shapes", "again"],
            "study: shapes and again have the same runs, such as [0-9a-f]{16} of cnn: name one of them",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(studies: list[str], said: str, runs: Path, capsys) -> None:
    write_task(runs, "planned", {"cnn": [None, None]}, task="Planned")
    write_task(runs, "others", {"lenet": [0.5, 0.6], "cnn": [None, None]}, task="Others")
    same = (runs / "studies/shapes/study.json").read_text().replace('"study": "shapes"', '"study": "again"')
    (runs / "studies/again").mkdir()
    (runs / "studies/again/study.json").write_text(same)
    assert report(runs, *studies) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and re.fullmatch(f"error: {said.replace('?', '[?]')}", lines[0]), lines
    assert not (runs.parent / "reports").exists()


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed here")
@pytest.mark.parametrize("width_px", [1280, 390])
def test_the_page_fits_a_desk_and_a_phone(runs: Path, width_px: int) -> None:
    assert report(runs, "shapes", "photos") == 0
    with Browser() as browser:
        browser.open(runs.parent / "reports/shapes+photos/report.html", width_px=width_px)
        assert browser.run("document.documentElement.scrollWidth") <= width_px
        assert browser.run("document.querySelectorAll('#table-ranks th button').length") == 5, "its columns sort"
        assert browser.problems == []
        assert {address.partition(":")[0] for address in browser.requests} <= {"file", "data"}
