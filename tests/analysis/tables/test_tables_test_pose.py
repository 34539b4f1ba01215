"""The table of upright and moved test images, against numbers by scipy, and studies that have no such table."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.answer import headline
from analysis.findings import Findings, find
from analysis.report.method import method
from analysis.tables import builders
from tests.support.built_tables import built, cells, lines
from tests.support.synthetic_ledger import STUDY, edit_json, write_arm, write_study

MOVED = {
    "cnn": [0.50, 0.52, 0.54, 0.53, 0.51],
    "oracle_unwarp": [0.62, 0.63, 0.67, 0.65, 0.62],
    "cnn+rotate": [0.58, 0.61, 0.60, 0.62, 0.60],
    "cnn@lenet": [0.40, 0.42, 0.41, 0.43, 0.40],
}
UPRIGHT = {
    "cnn": [0.70, 0.72, 0.71, 0.74, 0.73],
    "oracle_unwarp": [0.71, 0.71, 0.72, 0.75, 0.73],
    "cnn+rotate": [0.66, 0.70, 0.68, 0.71, 0.68],
    "cnn@lenet": [0.60, 0.61, 0.62, 0.63, 0.60],
}


def study_of(ledger: Path, *, known: bool = True) -> Findings:
    """known: whether runs have their upright accuracy."""
    arms = []
    for variant, accuracies in MOVED.items():
        baseline = variant if "@" in variant else "cnn"
        arms.append(write_arm(ledger, variant, baseline, accuracies))
        for key, accuracy in zip(arms[-1]["finals"], UPRIGHT[variant], strict=True):
            file = ledger / "runs" / key / "run.json"
            if known:
                edit_json(file, result=json.loads(file.read_text())["result"] | {"test_upright_accuracy": accuracy})
    write_study(ledger, arms, test_pose={"name": "R:max_deg=180", "words": "turned images"})
    return find(ledger, STUDY)


def paired(one: list[float], other: list[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval of differences in points, by scipy."""
    difference = 100 * np.subtract(one, other)
    result = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    return float(difference.mean()), float(result.high - result.low) / 2


def text(mean: tuple[float, float], *, signed: bool = True) -> str:
    return f"{mean[0]:{'+' if signed else ''}.1f} ± {mean[1]:.1f}".replace("-", "−")


def test_it_has_both_accuracies_what_is_lost_and_what_that_is_beside_the_plain_network(tmp_path: Path) -> None:
    findings = study_of(tmp_path)
    table = built("test_pose", findings)
    shown = cells(table)
    assert [section.heading for section in table.sections] == ["Tested under R:max_deg=180"]
    assert list(shown) == list(MOVED)
    for variant, row in shown.items():
        assert row["Upright %"].startswith(f"{100 * np.mean(UPRIGHT[variant]):.1f} ± ")
        assert row["Moved %"].startswith(f"{100 * np.mean(MOVED[variant]):.1f} ± ")
        assert row["Lost"] == text(paired(UPRIGHT[variant], MOVED[variant]), signed=False)
        assert row["n"] == "5"
    for variant in ("oracle_unwarp", "cnn+rotate"):
        assert shown[variant]["Upright gain"] == text(paired(UPRIGHT[variant], UPRIGHT["cnn"]))
        assert shown[variant]["Moved gain"] == text(paired(MOVED[variant], MOVED["cnn"]))
    for variant in ("cnn", "cnn@lenet"):  # each is the plain network of its backbone
        assert shown[variant]["Upright gain"] == shown[variant]["Moved gain"] == "—"
    ablation = cells(built("ablation", findings))
    assert {name: row["Gap closed %"] for name, row in shown.items()} == {
        name: row["Gap closed %"] for name, row in ablation.items()
    }
    values = {line["variant"]: line for line in lines(table)}["cnn+rotate"]
    assert (values["pose"], values["test_pose"]) == ("upright", "R:max_deg=180")
    assert values["upright_gain"] == pytest.approx(paired(UPRIGHT["cnn+rotate"], UPRIGHT["cnn"])[0] / 100)
    assert values["gap_closed"] == pytest.approx(np.mean(np.subtract(MOVED["cnn+rotate"], MOVED["cnn"])) / 0.118)
    assert len(values["run_keys"].split()) == 5


def test_other_tables_have_the_upright_accuracy_beside_the_judged_one(tmp_path: Path) -> None:
    findings = study_of(tmp_path)
    for name in ("leaderboard", "runs"):
        columns = built(name, findings).sections[0].table.columns
        assert columns.index("Upright %") == columns.index("Test %") + 1
    places = {line["variant"]: line for line in lines(built("leaderboard", findings))}
    assert places["cnn"]["test_upright_accuracy"] == pytest.approx(0.72)


def test_sentences_name_both_poses(tmp_path: Path) -> None:
    findings = study_of(tmp_path)
    both = "upright images (upright), tested on turned images (R:max_deg=180)"
    assert headline(findings).startswith(f"On Tiny (JPEG), {both}, ")
    assert f"pose: {both}. A pose is" in method(findings)[0]
    assert "the test part under R:max_deg=180" in built("ablation", findings).notes[0]


@pytest.mark.parametrize("planned", [True, False])
def test_there_is_none_without_such_runs(tmp_path: Path, planned: bool) -> None:
    """None of them is finished, or the study has no pose of the test part."""
    findings = study_of(tmp_path, known=not planned)
    if not planned:
        file = tmp_path / "studies" / STUDY / "study.json"
        record = json.loads(file.read_text())
        del record["test_pose"]
        file.write_text(json.dumps(record))
        findings = find(tmp_path, STUDY)
        assert "tested on" not in headline(findings)
    assert builders()["test_pose"](findings) is None
