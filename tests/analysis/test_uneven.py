"""Scores that count each class the same stand beside accuracy where classes are uneven, and nowhere else."""

from pathlib import Path
from typing import Any

import pytest

from analysis.answer import answer
from analysis.findings import Findings, find
from analysis.formats import Table
from tests.support.built_tables import built, cells, lines
from tests.support.synthetic_ledger import STUDY, write_arm, write_study

HEADINGS = ["Balanced %", "Macro F1 %", "AUROC %"]
NAMES = ["test_balanced_accuracy", "test_macro_f1", "test_auroc"]
TABLES = ("leaderboard", "classes", "runs")


def study(ledger: Path, num_test: list[int] | None, **run: Any) -> Findings:
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.95, 0.96, 0.97], by_class=run.get("cnn")),
        write_arm(ledger, "stn_affine", "cnn", [0.94, 0.95, 0.95], by_class=run.get("stn_affine")),
    ]
    images: dict[str, Any] = (
        {} if num_test is None else {"images": {"facts": [], "warnings": [], "train": [9, 9], "test": num_test}}
    )
    write_study(ledger, arms, **images)
    return find(ledger, STUDY)


def headings(table: Table) -> list[str]:
    return [heading for heading in table.sections[0].table.columns if heading in HEADINGS]


def test_they_stand_in_tables_and_in_the_answer_where_classes_are_uneven(tmp_path: Path) -> None:
    findings = study(tmp_path, [970, 30], cnn=(0.5, 0.492, 0.5), stn_affine=(0.61, 0.60, 0.734))
    for name in TABLES:
        assert headings(built(name, findings)) == HEADINGS
    found = cells(built("leaderboard", findings))
    assert [found["stn_affine"][heading].split(" ")[0] for heading in HEADINGS] == ["61.0", "60.0", "73.4"]
    assert {row["test_auroc"] for row in lines(built("leaderboard", findings))} == {0.5, 0.734}
    assert any(note.startswith("AUROC %: mean over the classes") for note in built("leaderboard", findings).notes)
    said = [text for text in answer(findings) if "uneven" in text]
    assert said == [
        "Classes are uneven: always naming a is right for 97.0 % of the test images. Where each class counts the same, "
        "accuracy is 50.0 % (cnn) to 61.0 % (stn_affine)."
    ]


@pytest.mark.parametrize("num_test", [[500, 500], [500, 400], None])
def test_where_classes_are_even_or_not_counted_people_see_none_and_programs_have_them(
    num_test: list[int] | None, tmp_path: Path
) -> None:
    findings = study(tmp_path, num_test, cnn=(0.5, 0.492, 0.5), stn_affine=(0.61, 0.60, 0.734))
    assert not any(headings(built(name, findings)) for name in TABLES)
    assert not any("uneven" in text for text in answer(findings))
    assert {row["test_macro_f1"] for row in lines(built("runs", findings)) if row["stage"] == "final"} == {0.492, 0.6}


def test_older_runs_without_them_have_the_tables_that_they_had(tmp_path: Path) -> None:
    findings = study(tmp_path, [970, 30])
    for name in TABLES:
        table = built(name, findings)
        assert not headings(table)
        assert not [column for column in table.columns for score in NAMES if column.startswith(score)]
    assert not any("uneven" in text for text in answer(findings))


def test_a_ledger_of_older_and_newer_runs_shows_what_the_newer_ones_say(tmp_path: Path) -> None:
    findings = study(tmp_path, [970, 30], stn_affine=(0.61, 0.60, 0.734))
    assert cells(built("leaderboard", findings))["cnn"]["AUROC %"] == "—"
    (said,) = [text for text in answer(findings) if "uneven" in text]
    assert said.endswith("accuracy is 61.0 % (stn_affine).")
