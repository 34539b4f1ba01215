"""The commands of a report that make a study, or one of its runs, again."""

import shlex
from pathlib import Path

import pytest

from analysis.findings import find
from analysis.report.reproduce import commands, notes
from tests.support.synthetic_ledger import STUDY, write_arm, write_study


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("csv:.../their patients.csv:id $", "csv:YOUR_FILE.csv:id $"),
        (r"name:^(\w+)-\d", r"name:^(\w+)-\d"),
        ("csv:patients.csv:id", "csv:patients.csv:id"),
    ],
)
@pytest.mark.parametrize("minutes", [None, 10])
def test_commands_keep_groups_together(tmp_path: Path, group: str, said: str, minutes: float | None) -> None:
    arms = [write_arm(tmp_path, "cnn", "cnn", [0.5, 0.52])]
    write_study(tmp_path, arms, source={"file": "a.yaml", "data": True, "minutes": minutes, "group": group})
    findings = find(tmp_path, STUDY)
    again, _, single = (shlex.split(command.line) for command in commands(findings))
    assert single[single.index("--group") + 1] == said
    assert (again[again.index("--group") + 1] if minutes else again[-1]) == (
        said if minutes else f"GROUP={said.replace('$', '$$')}"
    )
    assert any("YOUR_FILE.csv" in note for note in notes(findings.study)) == ("YOUR_FILE" in said)
