"""Tables that compare variants: leaderboard, claims, factorial, factors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.findings import Findings, find
from analysis.tables import builders
from analysis.tables.factors import pairs, settings
from tests.support.built_tables import built, cells, lines
from tests.support.synthetic_ledger import (
    SEEDS,
    STUDY,
    edit_json,
    key_of,
    transformer_record,
    write_arm,
    write_study,
    write_tiny_study,
)

CNN, STN = [0.50, 0.52, 0.54, 0.53, 0.51], [0.53, 0.545, 0.574, 0.56, 0.537]
AFFINE, BOTH = [0.56, 0.57, 0.585, 0.58, 0.567], [0.562, 0.574, 0.586, 0.578, 0.569]


def findings_of(ledger: Path, arms: list[dict[str, Any]]) -> Findings:
    write_study(ledger, arms)
    return find(ledger, STUDY)


def keys_of(*variants: str) -> str:
    return " ".join(key_of("upright", variant, seed) for variant in variants for seed in SEEDS)


@pytest.fixture
def crossed(tmp_path: Path) -> Findings:
    arms = [
        write_arm(tmp_path, "cnn", "cnn", CNN),
        write_arm(tmp_path, "stn_affine", "cnn", STN, num_parameters=63_000, train_flops=6.2e11),
        write_arm(tmp_path, "cnn+affine", "cnn", AFFINE),
        write_arm(tmp_path, "stn_affine+affine", "cnn+affine", BOTH, num_parameters=63_000, train_flops=6.2e11),
    ]
    return findings_of(tmp_path, arms)


def test_the_leaderboard_is_sorted_and_marks_the_best_and_the_tied(crossed: Findings) -> None:
    table = built("leaderboard", crossed)
    (section,) = table.sections
    assert [row[0] for row in section.table.rows] == ["stn_affine+affine", "cnn+affine", "stn_affine", "cnn"]
    assert [row["rank"] for row in lines(table)] == [1, 2, 3, 4]
    p = {name: stats.ttest_rel(score, BOTH).pvalue for name, score in (("a", AFFINE), ("s", STN), ("c", CNN))}
    assert p["a"] > 0.05 > 3 * max(p["s"], p["c"])  # what the arms were chosen for
    found = cells(table)
    assert found["cnn+affine"]["Test %"].endswith(" †")
    assert not any("†" in found[name]["Test %"] for name in ("stn_affine+affine", "stn_affine", "cnn"))
    column = section.table.columns.index("Test %")
    assert [i for i, row in enumerate(section.table.cells) if row[column].strong] == [0]
    by_variant = {row["variant"]: row for row in lines(table)}
    order = sorted(p, key=lambda name: p[name])
    assert by_variant["stn_affine"]["test_accuracy_p_best"] == pytest.approx(
        max((3 - i) * p[name] for i, name in enumerate(order[: order.index("s") + 1]))
    )
    assert by_variant["cnn+affine"]["test_accuracy_tied_with_best"] is True
    assert by_variant["stn_affine+affine"]["test_accuracy_is_best"] is True
    assert by_variant["cnn"]["test_accuracy"] == pytest.approx(0.52)
    assert by_variant["cnn"]["run_keys"] == keys_of("cnn")
    assert section.table.cells[3][column].value == by_variant["cnn"]["test_accuracy"]
    assert "two-sided paired t test (Holm-corrected" in table.notes[0]


def test_losses_show_in_the_leaderboard(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    found = cells(built("leaderboard", find(tmp_path, STUDY)))
    assert [found[name]["n"] for name in found] == ["5", "5", "3 of 5", "0 of 5", "0"]
    assert found["stn_affine+affine"]["Test %"] == "—"


def test_who_sees_the_true_pose_is_not_the_best(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, "cnn", "cnn", CNN, pose="R"),
        write_arm(tmp_path, "stn", "cnn", STN, pose="R"),
        write_arm(tmp_path, "oracle_unwarp", "cnn", [0.9, 0.9, 0.9, 0.9, 0.9], pose="R"),
    ]
    table = built("leaderboard", findings_of(tmp_path, arms))
    (section,) = table.sections
    assert section.table.rows[0][0] == "oracle_unwarp"
    assert section.table.cells[1][section.table.columns.index("Test %")].strong
    assert "oracle_unwarp sees the true pose" in table.notes[0]
    assert [(row["variant"], row["rank"]) for row in lines(table)] == [("oracle_unwarp", None), ("stn", 1), ("cnn", 2)]


def test_lower_is_better_for_losses(crossed: Findings) -> None:
    for seed in SEEDS:
        file = crossed.study.ledger / "runs" / key_of("upright", "cnn", seed) / "run.json"
        result = {"test_loss": 0.5, "test_accuracy": 0.5 + seed / 1000, "val_accuracy": 0.5}
        edit_json(file, result=result)
    rows = {row["variant"]: row for row in lines(built("leaderboard", find(crossed.study.ledger, STUDY)))}
    assert rows["cnn"]["test_loss_is_best"] is True
    assert rows["stn_affine"]["test_loss_is_best"] is False


@pytest.mark.parametrize("accuracies", [[None], ["failed", "failed"], []])
def test_nothing_to_compare(tmp_path: Path, accuracies: list[float | str | None]) -> None:
    arms = [write_arm(tmp_path, name, "cnn", accuracies, trial_statuses=()) for name in ("cnn", "stn", "stn+affine")]
    findings = findings_of(tmp_path, arms)
    assert builders()["leaderboard"](findings) is None
    assert builders()["parameters"](findings) is None
    (section,) = built("claims", findings).sections
    assert [row[2] for row in section.table.rows] == ["not tested"] * 2


def test_one_variant_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    findings = findings_of(tmp_path, [write_arm(tmp_path, "cnn", "cnn", CNN)])
    assert not {name for name in ("leaderboard", "claims", "factorial", "factors") if builders()[name](findings)}


def test_one_seed(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path, "cnn", "cnn", [0.5]), write_arm(tmp_path, "stn", "cnn", [0.6])]
    findings = findings_of(tmp_path, arms)
    found = cells(built("leaderboard", findings))
    assert (found["stn"]["Test %"], found["cnn"]["Test %"]) == ("60.0", "50.0 †")
    (row,) = lines(built("factors", findings))
    assert (row["difference"], row["num_pairs"]) == (pytest.approx(0.1), 1)
    assert np.isnan(row["difference_half_width"])


def test_claims(crossed: Findings) -> None:
    table = built("claims", crossed)
    rows = {(row["variant"], row["baseline"]): row for row in lines(table)}
    row = rows["stn_affine", "cnn"]
    assert row["difference"] == pytest.approx(np.mean(STN) - np.mean(CNN))
    assert row["p"] == 2 / 2**5  # all five differences have one sign
    assert row["p_holm"] == pytest.approx(min(3 * row["p"], 1))
    assert row["decision"] == "undecided"
    found = cells(table)["stn_affine against cnn"]
    assert (found["Decision"], found["p"]) == ("cannot tell yet", "0.062")
    assert set(str(row["run_keys"]).split()) == set(keys_of("cnn", "stn_affine").split())
    assert "The family of 3 claims: every variant against its baseline." in table.notes[0]


@pytest.mark.parametrize(("num", "expected"), [(2, "—"), (3, "100")])
def test_two_seeds_are_too_few_for_a_probability(tmp_path: Path, num: int, expected: str) -> None:
    arms = [
        write_arm(tmp_path, "cnn", "cnn", [0.50, 0.51, 0.52][:num]),
        write_arm(tmp_path, "stn_affine", "cnn", [0.60, 0.62, 0.61][:num]),
    ]
    table = built("claims", findings_of(tmp_path, arms))
    assert table.sections[0].table.columns[:3] == ("Claim", "Difference", "Decision")
    assert cells(table)["stn_affine against cnn"]["P(better) %"] == expected


def test_factorial(crossed: Findings) -> None:
    table = built("factorial", crossed)
    accuracy, effects = table.sections
    assert accuracy.table.columns == ("Model", "no policy", "affine")
    assert [row[0] for row in accuracy.table.rows] == ["cnn", "stn_affine"]
    assert accuracy.table.rows[1][2].startswith(f"{100 * np.mean(BOTH):.1f} ±")
    (row,) = lines(table)
    difference_S = np.array(BOTH) - AFFINE - (np.array(STN) - CNN)
    interval = stats.ttest_1samp(difference_S, 0).confidence_interval(0.95)
    assert row["interaction"] == pytest.approx(difference_S.mean())
    assert row["interaction_half_width"] == pytest.approx((interval.high - interval.low) / 2)
    assert row["model_alone"] == pytest.approx(np.mean(STN) - np.mean(CNN))
    assert row["policy_alone"] == pytest.approx(np.mean(AFFINE) - np.mean(CNN))
    assert row["both"] == pytest.approx(np.mean(BOTH) - np.mean(CNN))
    assert interval.high < 0 and row["reading"] == "less than the sum"
    assert set(str(row["run_keys"]).split()) == set(
        keys_of("cnn", "stn_affine", "cnn+affine", "stn_affine+affine").split()
    )
    assert effects.table.rows[0][:2] == ("stn_affine × affine", "cnn")


@pytest.mark.parametrize(("with_policy", "reading"), [("idle", "untested"), ("working", "less than the sum")])
def test_what_never_moved_an_image_is_no_factor(tmp_path: Path, with_policy: str, reading: str) -> None:
    alone, both = ([transformer_record(verdict=verdict)] * 5 for verdict in ("idle", with_policy))
    arms = [
        write_arm(tmp_path, "cnn", "cnn", CNN),
        write_arm(tmp_path, "stn_affine", "cnn", STN, transformers=alone),
        write_arm(tmp_path, "cnn+affine", "cnn", AFFINE),
        write_arm(tmp_path, "stn_affine+affine", "cnn+affine", BOTH, transformers=both),
    ]
    (row,) = lines(built("factorial", findings_of(tmp_path, arms)))
    assert row["reading"] == reading


def test_a_policy_is_crossed_beside_others_that_all_have(tmp_path: Path) -> None:
    names = ["cnn+flip_crop", "stn+flip_crop", "cnn+flip_crop+affine", "stn+flip_crop+affine"]
    arms = [
        write_arm(tmp_path, name, name.replace("stn", "cnn"), accuracies)
        for name, accuracies in zip(names, (CNN, STN, AFFINE, BOTH), strict=True)
    ]
    table = built("factorial", findings_of(tmp_path, arms))
    (row,) = lines(table)
    assert (row["model"], row["reference"], row["policy"]) == ("stn+flip_crop", "cnn+flip_crop", "affine")
    assert row["policy_alone"] == pytest.approx(np.mean(AFFINE) - np.mean(CNN))
    assert table.sections[0].table.columns == ("Model", "no other policy", "affine")


def test_a_further_policy_is_one_factor(tmp_path: Path) -> None:
    names = [
        "cnn+flip_crop:padding_px=1",
        "cnn+flip_crop:padding_px=1+affine",
        "cnn+flip_crop:padding_px=1+affine:max_deg=5",
    ]
    arms = [write_arm(tmp_path, name, names[0], CNN) for name in names]
    rows = lines(built("factors", findings_of(tmp_path, arms)))
    assert [(row["factor"], row["old"], row["new"]) for row in rows] == [
        ("policy", "flip_crop", "flip_crop+affine"),
        ("policy max_deg", "default", "5"),
    ]
    assert settings("cnn+rotate:max_deg=1+affine:max_deg=2") == {
        "model": "cnn",
        "backbone": "",
        "policy": "rotate+affine",
        "policy rotate.max_deg": "1",
        "policy affine.max_deg": "2",
    }


def test_no_crossing_no_factorial(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path, name, "cnn", CNN) for name in ("cnn", "stn_affine", "stn_affine+affine")]
    assert builders()["factorial"](findings_of(tmp_path, arms)) is None


def test_a_crossing_stays_on_its_backbone(tmp_path: Path) -> None:
    names = ["cnn", "cnn+affine", "cnn@lenet", "cnn@lenet+affine", "stn@lenet", "stn@lenet+affine"]
    arms = [write_arm(tmp_path, name, name.partition("+")[0].replace("stn", "cnn"), CNN) for name in names]
    rows = lines(built("factorial", findings_of(tmp_path, arms)))
    assert [(row["model"], row["reference"]) for row in rows if row["model"].startswith("stn")] == [
        ("stn@lenet", "cnn@lenet")
    ]


def test_settings_of_a_name() -> None:
    assert settings("stn:loc=deep:place=shared@lenet:width=2+rotate:max_deg=30") == {
        "model": "stn",
        "model loc": "deep",
        "model place": "shared",
        "backbone": "lenet",
        "backbone width": "2",
        "policy": "rotate",
        "policy max_deg": "30",
    }


def test_factors_are_pairs_that_differ_in_one_thing(tmp_path: Path) -> None:
    """Against every pair of names, compared setting by setting."""
    names = ["cnn", "stn", "stn:place=shared", "cnn+affine", "stn+affine", "stn:place=shared+affine", "cnn@lenet"]
    arms = [write_arm(tmp_path, name, "cnn", CNN) for name in names]
    study = findings_of(tmp_path, arms).study
    expected = set()
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            a, b = settings(one), settings(other)
            differing = {factor for factor in a.keys() | b.keys() if a.get(factor) != b.get(factor)}
            if len(differing) == 1:
                expected.add((differing.pop(), one, other))
    found = {(pair.factor, names[pair.before], names[pair.after]) for pair in pairs(study.arms)}
    assert found == expected
    assert ("model place", "stn", "stn:place=shared") in found


def test_factors_average_over_pairs(crossed: Findings) -> None:
    table = built("factors", crossed)
    rows = [row for row in lines(table) if row["factor"] == "model"]
    assert [row["variant"] for row in rows] == ["stn_affine", "stn_affine+affine", "mean of 2 pairs"]
    mean_S = (np.array(STN) - CNN + np.array(BOTH) - AFFINE) / 2
    interval = stats.ttest_1samp(mean_S, 0).confidence_interval(0.95)
    assert rows[2]["difference"] == pytest.approx(mean_S.mean())
    assert rows[2]["difference_half_width"] == pytest.approx((interval.high - interval.low) / 2)
    assert len(str(rows[2]["run_keys"]).split()) == 20
    assert [section.heading for section in table.sections] == ["Factor: model", "Factor: policy"]


def test_a_factor_has_one_direction_whatever_the_order(tmp_path: Path) -> None:
    names = ["cnn+affine", "cnn", "stn", "stn+affine"]
    arms = [write_arm(tmp_path, name, "cnn", CNN) for name in names]
    rows = lines(built("factors", findings_of(tmp_path, arms)))
    assert {(row["factor"], row["old"], row["new"]) for row in rows} == {
        ("model", "cnn", "stn"),
        ("policy", "none", "affine"),
    }
