"""`board`: several people's ledgers on one page, checked as `verify` does it; ties, ranks and what is resolved."""

import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from experiments.terminal.cli import main
from tests.faults.damage import edit, renew_sums
from tests.support.browser import PROGRAM, Browser
from tests.support.command_line import contents
from tests.support.people import write_person

ALICE = {
    "cnn": [0.801, 0.806, 0.799, 0.803, 0.808],
    "cnn+affine": [0.862, 0.866, 0.858, 0.864, 0.868],
    "oracle_unwarp": [0.9, 0.9, 0.9, 0.9, 0.9],
}
BOB = {"stn_affine+affine": [0.863, 0.865, 0.860, 0.862, 0.869]}
CAROL = {"cnn": [0.800, 0.807, 0.795], "cnn+flip_crop": [0.881, 0.886, 0.889]}


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Alice and Bob with the same seeds, Carol with others."""
    folder = tmp_path / "people"
    write_person(folder / "alice", ALICE)
    write_person(folder / "bob", BOB)
    write_person(folder / "carol", CAROL, first_seed=21)
    return folder


def lines_of(page: str) -> list[list[str]]:
    """The rows of the first board: the texts of their cells."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]


def text_of(folder: Path) -> str:
    return re.sub(r"<style>.*?</style>|<script>.*?</script>", "", (folder / "board.html").read_text(), flags=re.S)


def pairs_of(scores: list[list[float]]) -> Iterator[tuple[int, int, Any]]:
    """Each pair of entries with scipy's test of it. Those of five scores have the same seeds, those of three too."""
    for i, j in combinations(range(len(scores)), 2):
        by_seed = len(scores[i]) == len(scores[j])
        yield i, j, (stats.ttest_rel if by_seed else partial(stats.ttest_ind, equal_var=False))(scores[i], scores[j])


def test_who_stands_where_is_what_the_tests_say(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", str(people)]) == 0
    assert str(people / "board.html") in capsys.readouterr().out
    found = lines_of(text_of(people))
    entries = {("cnn", "alice"): ALICE["cnn"], ("cnn+affine", "alice"): ALICE["cnn+affine"]}
    entries |= {("stn_affine+affine", "bob"): BOB["stn_affine+affine"]}
    entries |= {(variant, "carol"): scores for variant, scores in CAROL.items()}
    names, scores = list(entries), list(entries.values())
    pairs, ranks = list(pairs_of(scores)), dict.fromkeys(range(5), 1)
    for number, (i, j, test) in enumerate(sorted(pairs, key=lambda pair: float(pair[2].pvalue))):  # Holm's steps
        if test.pvalue * (len(pairs) - number) > 0.05:
            break
        ranks[j if test.statistic > 0 else i] += 1
    assert {(row[0], row[4]): int(row[1]) for row in found[:-1]} == dict(zip(names, ranks.values(), strict=True))
    assert 1 < len(set(ranks.values())) < 5, "some are tied, and some are not"
    assert found[0][0] == "cnn+flip_crop" and found[-1][:3] == ["oracle_unwarp §", "—", "—"]
    half = stats.t.ppf(0.975, 2) * stats.sem(CAROL["cnn+flip_crop"])
    assert found[0][3:6] == [f"{100 * np.mean(CAROL['cnn+flip_crop']):.1f} ± {100 * half:.1f}", "carol", "3"]
    assert found[0][6:8] == ["11.5 GFLOP", "126,520"]


def test_what_it_resolves_is_a_difference_that_a_t_test_finds_in_four_of_five_cases(people: Path) -> None:
    assert main(["board", str(people)]) == 0
    scores = [ALICE["cnn"], ALICE["cnn+affine"], BOB["stn_affine+affine"], *CAROL.values()]
    pairs = list(pairs_of(scores))
    for by_seed, kind in ((True, "between lines that are compared by seed"), (False, "between others")):
        chosen = [pair for pair in pairs if (len(scores[pair[0]]) == len(scores[pair[1]])) is by_seed]
        errors = [(np.mean(scores[i]) - np.mean(scores[j])) / test.statistic for i, j, test in chosen]
        freedom = np.median([test.df for *_, test in chosen])
        beyond = stats.t.isf(0.05 / len(pairs) / 2, freedom)
        times = optimize.brentq(partial(_power_less, beyond, freedom), 0.1, 500)
        points = float(f"{100 * times * np.sqrt(np.mean(np.square(errors))):.2g}")
        assert f"{points:g} points {kind}" in text_of(people)


def _power_less(beyond: float, freedom: float, times: float) -> float:
    """By how much a t test finds a difference of so many standard errors more often than in 80 % of all cases."""
    return float(stats.nct.sf(beyond, freedom, times)) - 0.8


def test_a_study_that_verifies_and_cannot_be_understood_is_refused(people: Path, capsys) -> None:
    arms = json.loads((people / "bob/studies/ours/study.json").read_text())["arms"]
    shutil.rmtree(people / "bob")
    write_person(people / "bob", BOB, arms=[arms[0] | {"baseline": "cnm"}])
    assert main(["verify", str(people / "bob")]) == 0
    assert main(["board", str(people)]) == 1
    assert "bob, ours is refused: bob/studies/ours/study.json: baseline 'cnm' of" in capsys.readouterr().out
    assert "<dt>bob, ours</dt>" in text_of(people) and str(people) not in text_of(people)


@pytest.mark.parametrize("damage", ["edit", "forge", "take", "stray"])
def test_a_ledger_that_does_not_verify_is_refused_by_name(damage: str, people: Path, capsys) -> None:
    run = sorted((people / "bob/runs").iterdir())[0]
    if damage == "take":
        (run / "history.json").unlink()
    elif damage == "stray":
        (run / "extra.json").write_text("{}")
    else:
        edit(run / "run.json", lambda record: record["result"].update(test_accuracy=0.999))
        if damage == "forge":
            renew_sums(run)
    assert main(["verify", str(people / "bob")]) == 1, "the same check"
    said = capsys.readouterr().out
    assert main(["board", str(people)]) == 1
    refused = re.search("^bob is refused: runs/[0-9a-f]{16}/[^:]*: (.*)$", capsys.readouterr().out, re.M)
    assert refused and refused[1].split(": ")[1][:20] in " ".join(said.split())
    page = text_of(people)
    assert "<h2>Refused</h2>" in page and "<dt>bob</dt>" in page and str(people) not in page
    assert {row[4] for row in lines_of(page)} == {"alice", "carol"}


def test_archives_and_folders_with_a_ledger_in_them_count(people: Path, tmp_path: Path, capsys) -> None:
    assert main(["board", str(people), "--out", str(tmp_path / "before.html")]) == 0
    assert main(["archive", str(people / "carol"), "--out", str(people / "carol.tar.xz")]) == 0
    shutil.rmtree(people / "carol")
    shutil.move(people / "bob", tmp_path / "runs")
    (people / "bob").mkdir()
    shutil.move(tmp_path / "runs", people / "bob/runs")
    (people / "notes.txt").touch()
    before = contents(people)
    assert main(["board", str(people), "--out", str(tmp_path / "after.html")]) == 0
    assert contents(people) == before
    assert (tmp_path / "after.html").read_bytes() == (tmp_path / "before.html").read_bytes()
    (people / "carol.tar.xz").write_bytes((people / "carol.tar.xz").read_bytes()[:-100])
    capsys.readouterr()
    assert main(["board", str(people)]) == 1
    assert "carol is refused: carol.tar.xz: was cut short; copy it again" in capsys.readouterr().out


def test_an_archive_that_is_refused_leaves_nothing_to_the_next(people: Path, capsys) -> None:
    """Whoever packed an edited ledger with another program."""
    for who in ("bob", "carol"):
        assert main(["archive", str(people / who), "--out", str(people / f"{who}.tar.xz")]) == 0
    run = sorted((people / "bob/runs").iterdir())[0]
    edit(run / "run.json", lambda record: record["result"].update(test_accuracy=0.999))
    with tarfile.open(people / "bob.tar.xz", "w:xz") as tar:
        for file in sorted(path for path in (people / "bob").rglob("*") if path.is_file()):
            tar.add(file, f"runs/{file.relative_to(people / 'bob')}")
    for who in ("bob", "carol"):
        shutil.rmtree(people / who)
    assert main(["board", str(people)]) == 1
    assert re.findall("^(.*) is refused: .* edited: ", capsys.readouterr().out, re.M) == ["bob"]
    assert {row[4] for row in lines_of(text_of(people))} == {"alice", "carol"}


def test_the_same_runs_are_one_line_and_other_results_of_them_a_warning(people: Path, capsys) -> None:
    write_person(people / "dave", {"cnn": ALICE["cnn"]})
    write_person(people / "erin", {"cnn": [0.5, *ALICE["cnn"][1:]]})
    assert main(["board", str(people)]) == 0
    page = text_of(people)
    whose = [row[4] for row in lines_of(page) if row[0] == "cnn"]
    assert sorted(whose) == ["alice and dave", "carol", "erin"]
    warning = "Warning: .*(alice and dave|erin) have the same run [0-9a-f]{16} with other results"
    assert re.search(warning, page.partition("<table")[0]) and re.search(warning, capsys.readouterr().out)


def test_what_has_not_learned_or_too_few_runs_has_no_rank(people: Path) -> None:
    write_person(people / "dave", {"cnn": [0.95] * 5, "cnn+rotate": [0.1] * 5}, lr=0.2, fit=0.2)
    write_person(people / "erin", {"cnn": [0.97, 0.98]}, lr=0.3)
    assert main(["board", str(people)]) == 0
    page = text_of(people)
    unranked = {(row[0], row[4]) for row in lines_of(page) if row[1] == "—"}
    assert unranked == {("oracle_unwarp §", "alice"), ("cnn §", "dave"), ("cnn+rotate §", "dave"), ("cnn §", "erin")}
    assert "§ cnn of dave has no rank: trained too short to tell: of its training images, cnn is right on 20 %" in page
    assert "§ cnn of erin has no rank: it has fewer than 3 completed runs." in page


def test_what_a_longer_training_could_turn_is_a_tie(tmp_path: Path) -> None:
    """Six points between them, and ten per cent of training images still to learn."""
    write_person(tmp_path / "alice", {"cnn": ALICE["cnn"]}, fit=0.9)
    write_person(tmp_path / "bob", BOB, fit=0.9)
    assert main(["board", str(tmp_path)]) == 0
    assert [row[1] for row in lines_of(text_of(tmp_path))] == ["1", "1"]
    assert "1 of 1 comparison is left open all the same, as ties: a longer training could turn" in text_of(tmp_path)


@pytest.mark.parametrize("margins", [(0.5, 0.01, None), (0.01, 0.5, None), (0.5, 0.5, 0.01), (0.01, 0.5, 0.5)])
def test_the_smallest_margin_is_for_all_however_folders_are_called(
    margins: tuple[float, float, float | None], tmp_path: Path
) -> None:
    """Half of six points is less than what is left to learn, and half of a margin of 50 would be more.

    The third person has the runs of the first.
    """
    studies = [{"cnn": ALICE["cnn"]}, BOB, {"cnn": ALICE["cnn"]}]
    for who, accuracies, margin in zip(("alice", "bob", "carol"), studies, margins, strict=True):
        if margin:
            write_person(tmp_path / who, accuracies, fit=0.9, margin=margin)
    assert main(["board", str(tmp_path)]) == 0
    assert [row[1] for row in lines_of(text_of(tmp_path))] == ["1", "1"]


def test_runs_that_were_lost_are_told(tmp_path: Path) -> None:
    """With two seeds in common, paired tests would have one degree of freedom."""
    write_person(tmp_path / "alice", {"cnn": ALICE["cnn"], "cnn+affine": ["diverged", "diverged", 0.9, 0.9, 0.91]})
    write_person(tmp_path / "bob", {"cnn": [0.9, 0.91, 0.9, 0.92, "diverged"]}, lr=0.2)
    write_person(tmp_path / "carol", {"cnn": ["diverged"] * 5}, lr=0.3)
    assert main(["verify", str(tmp_path / "carol")]) == 0
    assert main(["board", str(tmp_path)]) == 0
    page = text_of(tmp_path)
    assert [(row[0], row[3]) for row in lines_of(page) if row[4] == "carol"] == [("cnn §", "—")]
    assert "§ cnn of carol has no rank: no run was completed." in page
    assert "This leaves out 2 diverged of 5 runs of cnn+affine of alice: those" in page
    assert "2 comparisons seed by seed" in page and "1 comparison of lines whose seeds differ, or that" in page


def test_a_study_that_is_not_finished_is_left_out(people: Path) -> None:
    write_person(people / "dave", {"cnn": [0.9, 0.9, None]}, lr=0.2)
    write_person(people / "erin", {"cnn": [0.9, 0.9, 0.9]}, epochs=3)
    assert main(["board", str(people)]) == 0
    left_out = text_of(people).partition("<h2>Left out</h2>")[2]
    assert re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", left_out) == [
        ("dave, ours", "it is not finished: runs that it lists are missing"),
        ("erin", "it shares no task and protocol with others"),
    ]


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is said where nothing can be shown."""
    before = contents(folder) if folder.exists() else {}
    assert main(["board", str(folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and (contents(folder) if folder.exists() else {}) == before
    return lines[0]


def test_where_nothing_is_left_or_shared_one_line_says_so(people: Path, tmp_path: Path, capsys) -> None:
    assert refusal(tmp_path / "none", capsys) == f"error: path: there is no folder {tmp_path / 'none'}"
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty", capsys).endswith(
        "holds no ledger, nor an archive of one, that is as it was written"
    )
    for who in ("alice", "carol"):
        shutil.rmtree(people / who)
    write_person(people / "dave", {"cnn": [0.9, 0.9, 0.9]}, epochs=3)
    said = refusal(people, capsys)
    assert re.search(
        "no two finished a study of one task by one protocol: bob: sprites by [0-9a-f]{8}; dave: sprites by", said
    )
    shutil.rmtree(people / "dave")
    (sorted((people / "bob/runs").iterdir())[0] / "run.json").write_text("{}")
    assert re.search("as it was written: bob: runs/[0-9a-f]{16}/run.json: ", refusal(people, capsys))


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed here")
def test_the_page_fits_a_desk_and_a_phone_and_asks_for_nothing(people: Path) -> None:
    (sorted((people / "bob/runs").iterdir())[0] / "run.json").write_text("{}")
    assert main(["board", str(people)]) == 1
    with Browser() as browser:
        for width_px in (1280, 390):
            browser.open(people / "board.html", width_px=width_px)
            assert browser.run("document.documentElement.scrollWidth") <= width_px
            assert browser.run("document.querySelector('#table-lines-1 tbody').checkVisibility()"), "it is not folded"
        assert browser.problems == []
        assert {address.partition(":")[0] for address in browser.requests} <= {"file", "data"}
