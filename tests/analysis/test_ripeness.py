"""No decision on networks that have not learned, cannot be told apart, or of which a longer training could turn it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from analysis.answer import answer, headline
from analysis.claims import judge
from analysis.figures.registry import builders
from analysis.findings import Findings, find
from analysis.report import report_html
from analysis.statistics.seeds_by_images import seeds_by_images_tests
from analysis.tables import build_tables
from analysis.wording import risk_of
from tests.support import synthetic_ledger
from tests.support.synthetic_ledger import (
    STUDY,
    TASK,
    key_of,
    transformer_record,
    write_arm,
    write_evaluation,
    write_study,
)

SEEDS = tuple(range(1, 9))
FOUR = {**TASK, "classes": ["a", "b", "c", "d"]}
COUNTS = {"facts": [], "warnings": [], "train": [96, 96, 96, 96], "test": [40, 30, 20, 10]}


@pytest.fixture(autouse=True)
def eight_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_ledger, "SEEDS", SEEDS)


def around(accuracy: float) -> list[float | str | None]:
    return [round(accuracy + 0.002 * (seed % 3), 4) for seed in SEEDS]


def study_of(ledger: Path, arms: dict[str, tuple[float, float]], **changes: Any) -> Findings:
    """Arms by variant: test accuracy, and that on training images. Each is compared with cnn, or with its policy."""
    written = []
    for variant, (test, fit) in arms.items():
        plain = "cnn" + "".join(variant.partition("+")[1:]) if variant.startswith("stn") else "cnn"
        verdict = changes.get("verdict", "working") if variant.startswith("stn") else None
        looks = [transformer_record(verdict=verdict)] * len(SEEDS) if verdict else ()
        baseline = plain if plain in arms else "cnn"
        written.append(write_arm(ledger, variant, baseline, around(test), fit=fit, transformers=looks))
    kept = {name: value for name, value in changes.items() if name != "verdict"}
    write_study(ledger, written, task=FOUR, images=COUNTS, **kept)
    return find(ledger, STUDY)


@pytest.mark.parametrize(
    ("variant", "cnn", "other", "decision", "why"),
    [
        (
            "cnn+affine",
            (0.77, 0.98),
            (0.281, 0.28),
            "unripe",
            "of its training images, cnn+affine is right on 28 %, whe",
        ),
        ("cnn+affine", (0.91, 1.0), (0.66, 0.7), "unripe", "of its training images, cnn+affine still gets 30 % wrong"),
        ("cnn+affine", (0.91, 1.0), (0.66, 0.9), "worse", ""),
        ("cnn+affine", (0.855, 1.0), (0.892, 0.9), "better", ""),
        ("cnn+affine", (0.69, 0.7), (0.72, 0.8), "unripe", "of its training images, cnn still gets 30 % wrong, and l"),
        ("cnn+affine", (0.9, 0.905), (0.6, 0.9), "unripe", "augmentation has nothing to cure yet, as cnn is right on"),
        ("cnn+affine", (0.995, 1.0), (0.995, 1.0), "equivalent", ""),
        ("stn_affine", (0.9, 0.97), (0.9, 1.0), "unripe", "of its training images, cnn still gets 3 % wrong, and le"),
        ("stn_affine", (0.9, 0.996), (0.9, 0.996), "equivalent", ""),
        ("cnn+affine", (1.0, 1.0), (1.0, 1.0), "unripe", "every run is right on all test images"),
    ],
)
def test_what_a_longer_training_could_turn(
    tmp_path: Path, variant: str, cnn: tuple[float, float], other: tuple[float, float], decision: str, why: str
) -> None:
    if cnn[0] == 1:
        arms = [write_arm(tmp_path, name, "cnn", [1.0] * 8) for name in ("cnn", variant)]
        write_study(tmp_path, arms)
        findings = find(tmp_path, STUDY)
    else:
        findings = study_of(tmp_path, {"cnn": cnn, variant: other})
    (result,) = findings.claims
    assert (result.decision, result.why.partition(": ")[2][: len(why)]) == (decision, why)
    says = "nothing to tell apart whether" if cnn[0] == 1 else "trained too short to tell whether"
    assert (says in headline(findings)) == (decision == "unripe")
    assert ("best of the two so far" in headline(findings)) == (decision == "unripe" and cnn[0] != 1)
    star = " *" in build_tables(findings)["ablation"].sections[0].table.rows[1][5]
    assert star == (decision in ("better", "worse"))


def test_one_answer_for_all_images(tmp_path: Path) -> None:
    """97 % of one class: every network says so, and all were exactly as good, p < 0.001."""
    findings = study_of(tmp_path, {"cnn": (0.97, 1.0), "stn_affine": (0.97, 1.0)})
    label_N = (np.arange(200) >= 194).astype(np.int16)
    sure_N = np.ones(200, np.float32)
    arrays: dict[str, Any] = {"label": label_N, "predicted": 0 * label_N, "confidence": sure_N}
    for variant in ("cnn", "stn_affine"):
        for seed in SEEDS:
            file = tmp_path / "runs" / key_of("upright", variant, seed) / "predictions.safetensors"
            safetensors.numpy.save_file(arrays | {"label_probability": sure_N}, file)
    findings = find(tmp_path, STUDY)
    (said,) = answer(findings)
    assert said.startswith(
        "Nothing to tell apart whether stn_affine is better or worse than cnn: every run gives one and"
    )


def test_a_run_without_its_curve_is_not_taken_for_trained(tmp_path: Path) -> None:
    findings = study_of(tmp_path, {"cnn": (0.5, 1.0), "stn_affine": (0.6, 1.0)})
    assert findings.claims[0].decision == "better"
    for seed in SEEDS:
        (tmp_path / "runs" / key_of("upright", "cnn", seed) / "history.json").unlink()
    (result,) = find(tmp_path, STUDY).claims
    assert (result.decision, "nothing is kept of how cnn was trained" in result.why) == ("unripe", True)


def test_a_transformer_that_never_looked_decides_nothing(tmp_path: Path) -> None:
    arms = {"cnn": (0.55, 1.0), "stn_affine": (0.53, 1.0)}
    assert study_of(tmp_path / "w", arms).claims[0].decision == "worse"
    findings = study_of(tmp_path / "i", arms, verdict="idle")
    assert findings.claims[0].decision == "idle"
    said = "(a spatial transformer) is untested (the transformer of stn_affine did not learn to look: in every run "
    assert said in headline(findings)
    assert answer(findings)[0].startswith("Whether looking pays is untested: stn_affine did not learn to look.")
    page = report_html(findings, [])
    assert "Is untested" in page and 'class="verdict idle"' in page and "Hurts" not in page
    cells = build_tables(findings)["claims"].sections[0].table.rows
    assert cells[0][2] == "did not learn to look; untested"


def test_no_gain_is_green_behind_the_plain_network(tmp_path: Path) -> None:
    arms = {"cnn": (0.77, 1.0), "cnn+affine": (0.5, 1.0), "stn_affine+affine": (0.62, 1.0)}
    findings = study_of(tmp_path, arms)
    worse, behind = findings.claims
    assert (worse.decision, behind.decision) == ("worse", "behind")
    assert "to augmentation gains, yet stays behind the plain network (by 12.0 ± " in headline(findings)
    assert 'class="verdict better"' not in report_html(findings, [])
    assert "best of the three: cnn, 77.2 %" in headline(findings)


def test_a_difference_that_is_there_and_does_not_matter() -> None:
    difference_CS = 0.004 + 0.0005 * np.array([[1, -1, 1, -1, 1, -1, 1, -1]])
    assert [each.decision for each in judge(difference_CS, 0.05, 0.01)] == ["negligible"]
    assert [each.decision for each in judge(difference_CS, 0.05, 0.01, smallest=0.02)] == ["better"]
    (tiny,) = judge(0 * difference_CS, 0.05, 0.01, smallest=0.02)
    assert (tiny.decision, tiny.why) == ("undecided", "the margin is smaller than one test image")


def test_seeds_that_agree_on_images_that_others_would_not_share(tmp_path: Path) -> None:
    """Eight seeds that are right about the same 3 images of 100 more: p = 0.008 over seeds, 0.08 over images."""
    findings = study_of(tmp_path, {"cnn": (0.5, 1.0), "stn_affine": (0.53, 1.0)})
    for variant in ("cnn", "stn_affine"):
        for seed in SEEDS:
            key = key_of("upright", variant, seed)
            write_evaluation(tmp_path, key, accuracy=0.5, seed=0, num_images=100)
            file = tmp_path / "runs" / key / "predictions.safetensors"
            arrays = safetensors.numpy.load_file(file)
            right_N = np.arange(100) < 50 + (3 if variant == "stn_affine" else 0)
            predicted_N = np.where(right_N, arrays["label"], 1 - arrays["label"]).astype(np.int16)
            safetensors.numpy.save_file(arrays | {"predicted": predicted_N}, file)
    findings = find(tmp_path, STUDY)
    (result,) = findings.claims
    assert (result.p_holm, result.decision) == (2 / 2**8, "undecided")
    assert "these seeds agree, other images might not" in answer(findings)[0]


def test_images_are_tested_as_a_two_way_layout() -> None:
    """By hand: seeds that say the same of 4 of 100 images leave the images' own t test."""
    difference_SN = np.tile((np.arange(100) < 4).astype(np.int8), (5, 1))
    (p,), (p_equivalent,) = seeds_by_images_tests([difference_SN], 0.01)
    t = 0.04 / (0.04 * 0.96 / 99) ** 0.5
    assert p == pytest.approx(0.0445, abs=1e-3) and t == pytest.approx(2.031, abs=1e-3)
    assert p_equivalent > 0.9
    assert np.isnan(seeds_by_images_tests([difference_SN[:2]], 0.01)).all()


@pytest.mark.parametrize(("lost", "percent"), [(0, 31), (1, 47), (8, 100)])
def test_the_rate_of_collapse_that_was_not_excluded(tmp_path: Path, lost: int, percent: int) -> None:
    """1 - 0.05 ** (1 / 8) of eight clean runs; published (Clopper and Pearson): 47 % of one in eight."""
    looks = [transformer_record(verdict="collapsed" if seed < lost else "working") for seed in range(8)]
    arms = [write_arm(tmp_path, "cnn", "cnn", around(0.5))]
    arms.append(write_arm(tmp_path, "stn_affine", "cnn", around(0.6), transformers=looks))
    write_study(tmp_path, arms)
    findings = find(tmp_path, STUDY)
    assert round(100 * risk_of(findings.claims[0])) == percent
    first = "None" if lost == 0 else str(lost)
    assert f"{first} of its 8 runs collapsed, up to {percent} % may." in answer(findings)[0]


@pytest.mark.parametrize(("tuning", "said"), [(None, True), ("once", True), ("per_seed", False)])
def test_a_study_that_was_tuned_once_says_so(tmp_path: Path, tuning: str | None, said: bool) -> None:
    findings = study_of(
        tmp_path, {"cnn": (0.5, 1.0), "stn_affine": (0.6, 1.0)}, **({"tuning": tuning} if tuning else {})
    )
    assert ("given one tuning" in answer(findings)[0], "tuned once" in headline(findings)) == (said, said)


def test_the_clock_goes_before_the_flops(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path, "cnn", "cnn", around(0.5), train_seconds=20.0)]
    arms.append(write_arm(tmp_path, "stn_affine", "cnn", around(0.6), train_seconds=25.6, train_flops=1.07 * 3.1e11))
    write_study(tmp_path, arms)
    told = "over cnn at 1.28 times the training time and 1.07 times the computation ("
    assert told in answer(find(tmp_path, STUDY))[0]


def test_the_commonest_class_is_in_tables_and_figures(tmp_path: Path) -> None:
    findings = study_of(tmp_path, {"cnn": (0.5, 1.0), "stn_affine": (0.6, 1.0)})
    tables = build_tables(findings)
    for name in ("ablation", "leaderboard"):
        assert any("commonest class, a, is right on 40.0 % of the test images" in note for note in tables[name].notes)
    for name in ("ablation", "curves", "cost"):
        figure = builders()[name][1](findings)
        assert figure is not None
        texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert "always the commonest class: 40.0 %" in texts
