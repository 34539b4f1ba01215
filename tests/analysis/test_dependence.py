"""How far differences depend on a study's factor, against tests and means worked out here."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.answer import answer
from analysis.dependence import Dependence
from analysis.figures import style
from analysis.figures.dependence import dependence_figure
from analysis.findings import Findings, find
from analysis.tables import build_tables
from ledger.errors import UserError
from tests.support.synthetic_ledger import SEEDS, edit_json, key_of, write_json, write_run, write_study

NAMES = ("small", "large", "huge")
PLAIN = (0.50, 0.52, 0.54, 0.53, 0.51)
GAINS = {
    "small": {"rises": (0.02, 0.03, 0.02, 0.03, 0.025), "stays": (0.04, 0.05, 0.04, 0.05, 0.045)},
    "large": {"rises": (0.08, 0.09, 0.085, 0.09, 0.08), "stays": (0.041, 0.05, 0.041, 0.049, 0.045)},
}


def write(
    ledger: Path, name: str, gains: dict[str, Sequence[float]], studies: Sequence[str] = NAMES[:2], fit: float = 1.0
) -> None:
    arms: list[dict[str, Any]] = []
    for variant, gain in {"cnn": (0,) * 5, **gains}.items():
        keys = [key_of(name, variant, seed) for seed in SEEDS]
        for key, seed, plain, more in zip(keys, SEEDS, PLAIN, gain, strict=True):
            write_run(ledger, key, variant=variant, seed=seed, accuracy=plain + more, fit=fit)
        about = {"pose": "upright", "variant": variant, "baseline": "cnn"}
        arms.append({**about, "trials": [], "winner": None, "finals": keys})
    values = [16, 32, 64][: len(studies)]
    factor = {"key": "protocol.image_px", "values": values, "studies": [*studies]}
    write_study(ledger, arms, study=name, factor=factor)


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    for name, gains in GAINS.items():
        write(tmp_path, name, dict(gains))
    return find(tmp_path, "small")


def of(findings: Findings, variant: str) -> Dependence:
    return next(row for row in findings.dependences if row.variant == variant)


def test_means_are_paired_by_seed(findings: Findings) -> None:
    for variant in ("rises", "stays"):
        row = of(findings, variant)
        for level, name in zip(row.levels, GAINS, strict=True):
            gain_S = np.array(GAINS[name][variant])
            assert level.accuracy.value == pytest.approx((np.array(PLAIN) + gain_S).mean())
            assert level.difference.value == pytest.approx(gain_S.mean())
            half = stats.t.ppf(0.975, 4) * gain_S.std(ddof=1) / 5**0.5
            assert level.difference.half_width == pytest.approx(half)
            assert level.keys == tuple(key_of(name, variant, seed) for seed in SEEDS)
        change_S = np.subtract(GAINS["large"][variant], GAINS["small"][variant])
        assert row.levels[1].change.value == pytest.approx(change_S.mean())
    assert [level.difference.num for level in of(findings, "cnn").levels] == [0, 0]


def test_words_follow_tests_that_are_corrected(findings: Findings) -> None:
    changes = [np.subtract(GAINS["large"][each], GAINS["small"][each]) for each in ("rises", "stays")]
    moved = multipletests([stats.ttest_1samp(change, 0).pvalue for change in changes], method="holm")[1]
    small = [
        max(
            stats.ttest_1samp(change, -0.01, alternative="greater").pvalue,
            stats.ttest_1samp(change, 0.01, alternative="less").pvalue,
        )
        for change in changes
    ]
    rises, stays = of(findings, "rises"), of(findings, "stays")
    assert (rises.extent, stays.extent) == ("depends", "same")
    assert rises.p == pytest.approx(moved[0])
    assert stays.p == pytest.approx(multipletests(small, method="holm")[1][1])


def test_the_answer_says_how_far_and_no_more(findings: Findings) -> None:
    said = [text for text in answer(findings) if "image_px" in text]
    assert said[0].startswith(
        "What rises has over cnn depends on protocol.image_px: +2.5 ± 0.6 points at 16, +8.5 ± 0.6 points at 32 (Holm p"
    )
    assert said[1].startswith(
        "What stays has over cnn changes by less than 1 point over the values of protocol.image_px:"
    )
    assert "(equivalence p" in said[1] and len(said) == 2


@pytest.mark.parametrize("fit", [0.51, 0.9])
def test_of_networks_that_have_not_learned_there_is_no_p_value(tmp_path: Path, fit: float) -> None:
    """Hardly better than chance of two classes, or with more left to learn than the difference, at one value only."""
    write(tmp_path, "small", dict(GAINS["small"]), fit=fit)
    write(tmp_path, "large", dict(GAINS["large"]))
    for name in GAINS:
        found = find(tmp_path, name)
        assert [(row.extent, np.isnan(row.p)) for row in found.dependences if row.is_compared] == [("unripe", True)] * 2
        said = [text for text in answer(found) if "image_px" in text]
        assert [text.startswith("Whether what ") and " p " not in text for text in said] == [True, True]
        rows = build_tables(found)["dependence"].sections[1].table.rows
        assert {str(row[4]) for row in rows} == {"trained too short to tell"}


def test_both_studies_have_the_same_table_and_each_run_once(findings: Findings) -> None:
    tables = [build_tables(each)["dependence"] for each in (findings, find(findings.study.ledger, "large"))]
    assert tables[0].sections == tables[1].sections
    assert repr([row[1:] for row in tables[0].rows]) == repr([row[1:] for row in tables[1].rows])
    keys = [key for row in tables[0].rows for key in str(row[-1]).split()]
    assert len(keys) == len(set(keys)) == 2 * 3 * 5
    differences = tables[0].sections[1].table
    assert differences.columns == ("Variant", "16", "32", "First to last", "Dependence", "p")
    assert [str(row[4]) for row in differences.rows] == ["depends on it", "within the margin"]


def test_a_value_that_is_not_there_yet_is_named_and_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path, "small", dict(GAINS["small"]), NAMES)
    found = find(tmp_path, "small")
    table = build_tables(found)["dependence"]
    assert [note for note in table.notes if "is there yet" in note] == [
        f"Nothing of protocol.image_px = {value} is there yet." for value in (32, 64)
    ]
    assert not found.faults and not any("image_px" in text for text in answer(found))
    with style.applied(found.study):
        assert dependence_figure(found) is None


def change_protocol(ledger: Path, name: str, **changes: Any) -> None:
    for variant in ("cnn", "rises", "stays"):
        for seed in SEEDS:
            file = ledger / "runs" / key_of(name, variant, seed) / "run.json"
            config = json.loads(file.read_text())["config"]
            edit_json(file, config=config | {"protocol": config["protocol"] | changes})


def change_factor(ledger: Path, key: str, *names: str) -> None:
    for name in names:
        factor = {"key": key, "values": [16, 32], "studies": [*NAMES[:2]]}
        edit_json(ledger / "studies" / name / "study.json", factor=factor)


def drop_factor(file: Path) -> None:
    write_json(file, {key: value for key, value in json.loads(file.read_text()).items() if key != "factor"})


OTHERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "epochs": (lambda ledger: change_protocol(ledger, "large", image_px=16, epochs=12), "protocol"),
    "a field that came later": (lambda ledger: change_protocol(ledger, "large", class_weights="balanced"), "protocol"),
    "test pose": (
        lambda ledger: edit_json(ledger / "studies/large/study.json", test_pose={"name": "rotated", "words": "turned"}),
        "test pose",
    ),
    "another factor": (lambda ledger: change_factor(ledger, "protocol.epochs", "large"), "factor"),
    "no factor": (lambda ledger: drop_factor(ledger / "studies/large/study.json"), "factor"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_study_that_differs_in_more_than_the_factor_does_not_count(
    tmp_path: Path, findings: Findings, other: str
) -> None:
    change, what = OTHERS[other]
    change(tmp_path)
    found = find(tmp_path, "small")
    notes = build_tables(found)["dependence"].notes
    assert f"large has another {what} than this one: carry it out again." in notes
    assert not any("is there yet" in note for note in notes)
    assert {row.levels[1].accuracy.num for row in found.dependences} == {0}
    assert not any("image_px" in text for text in answer(found))


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("protocol.image_px", {"image_px": 16, "class_weights": "none"}),
        ("protocol.fit", {"fit": "pad"}),
        ("protocol.val_images", {"val_images": 10, "train_images": 90}),
    ],
)
def test_what_differs_with_the_factor_is_no_matter(
    tmp_path: Path, findings: Findings, key: str, changes: dict[str, Any]
) -> None:
    change_protocol(tmp_path, "large", **changes)
    change_factor(tmp_path, key, "small", "large")
    found = find(tmp_path, "small")
    assert of(found, "rises").extent == "depends" and of(found, "rises").levels[1].fault == ""


def test_of_two_seeds_nothing_is_told(tmp_path: Path) -> None:
    for name, gains in GAINS.items():
        write(tmp_path, name, dict(gains))
        for variant in ("cnn", "rises", "stays"):
            for seed in SEEDS[2:]:
                edit_json(tmp_path / "runs" / key_of(name, variant, seed) / "run.json", status="failed")
    found = find(tmp_path, "small")
    assert {row.extent for row in found.dependences} == {"open"}
    assert not any("image_px" in text for text in answer(found))


def test_a_study_without_a_factor_has_none_of_it(tmp_path: Path) -> None:
    write(tmp_path, "small", dict(GAINS["small"]))
    drop_factor(tmp_path / "studies/small/study.json")
    found = find(tmp_path, "small")
    assert found.dependences == () and "dependence" not in build_tables(found) and dependence_figure(found) is None


@pytest.mark.parametrize("studies", [["small"], ["large", "huge"], ["small", "large", "huge", "more"]])
def test_a_factor_that_does_not_fit_is_refused(tmp_path: Path, studies: list[str]) -> None:
    write(tmp_path, "small", dict(GAINS["small"]))
    factor = {"key": "protocol.image_px", "values": [16, 32], "studies": studies}
    edit_json(tmp_path / "studies/small/study.json", factor=factor)
    with pytest.raises(UserError, match=r"small/study.json: 'factor' does not name a study for each value"):
        find(tmp_path, "small")


def test_the_figure_shows_accuracies_and_differences(findings: Findings) -> None:
    with style.applied(findings.study):
        drawn = dependence_figure(findings)
    assert drawn is not None
    accuracy, difference = drawn.axes
    assert [len(ax.containers) for ax in (accuracy, difference)] == [3, 2]
    line = difference.containers[0].lines[0]  # type: ignore[attr-defined]
    assert line.get_ydata() == pytest.approx([2.5, 8.5])
    assert [tick.get_text() for tick in accuracy.get_xticklabels()] == ["16", "32"]
