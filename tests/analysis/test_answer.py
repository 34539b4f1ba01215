"""The answer in words says what the numbers say, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest

from analysis.answer import answer, headline
from analysis.earlier_names import model_said
from analysis.findings import Findings, find
from analysis.questions import question_of
from analysis.verdicts import verdicts
from ledger.study import Claim
from tests.support.synthetic_ledger import (
    STUDY,
    edit_json,
    transformer_record,
    write_arm,
    write_study,
    write_tiny_study,
)

CNN = [0.50, 0.52, 0.54, 0.53, 0.51]


def study_of(ledger: Path, by_variant: dict[str, list[Any]], *, pose: str = "upright", **changes: Any) -> Findings:
    """A study whose baseline is `cnn`, or `cnn` with the variant's policy where that is there."""
    arms = []
    for variant, accuracies in by_variant.items():
        plain = "cnn" + "".join(variant.partition("+")[1:]) if not variant.startswith("cnn") else "cnn"
        baseline = plain if plain in by_variant else "cnn"
        arms.append(write_arm(ledger, variant, baseline, accuracies, pose=pose))
    write_study(ledger, arms, **changes)
    return find(ledger, STUDY)


def shifted(points: list[float], base: float = 0.5) -> tuple[list[float], list[float]]:
    """Accuracies of a baseline and of a variant that differs from it by so many points, seed by seed."""
    ours = [base + 0.003 * i for i in range(len(points))]
    return ours, [accuracy + point / 100 for accuracy, point in zip(ours, points, strict=True)]


def sentence(points: list[float], tmp_path: Path, variant: str = "stn_affine") -> str:
    """What is said of a variant that differs from cnn by so many points."""
    cnn, other = shifted(points)
    said = answer(study_of(tmp_path, {"cnn": cnn, variant: other}))
    assert len(said) == 1
    return said[0]


@pytest.mark.usefixtures("seeds")
def test_better(tmp_path: Path) -> None:
    text = sentence([1.8, 2.0, 1.9, 1.7, 2.1, 1.8, 2.0, 1.9], tmp_path)
    assert (
        text
        == "stn_affine gains 1.9 ± 0.1 points over cnn at the same training time and computation (8 seeds, Holm p = "
        "0.0078, given one tuning). None of its 8 runs collapsed, up to 31 % may."
    )


@pytest.mark.usefixtures("seeds")
def test_worse(tmp_path: Path) -> None:
    text = sentence([-1.8, -2.0, -1.9, -1.7, -2.1, -1.8, -2.0, -1.9], tmp_path)
    assert text.startswith("stn_affine loses 1.9 ± 0.1 points against cnn")


@pytest.mark.usefixtures("seeds")
def test_better_by_less_than_matters(tmp_path: Path) -> None:
    text = sentence([0.03, 0.04, 0.03, 0.04, 0.03, 0.04, 0.03, 0.04], tmp_path)
    assert text.startswith("stn_affine gains 0.035 ± 0.004 points over cnn")
    assert "That is less than the 1 point that would matter here. None of its 8 runs" in text


@pytest.mark.usefixtures("seeds")
def test_equivalent(tmp_path: Path) -> None:
    text = sentence([0.1, -0.1, 0.2, -0.2, 0.1, -0.1, 0.0, 0.1], tmp_path)
    assert text.startswith(
        "stn_affine is as good as cnn to within 1 point: 0.0 ± 0.1 points, at the same training time and computation"
    )
    assert "(8 seeds, equivalence p < 0.001, given one tuning)" in text


def test_the_same_in_every_seed(tmp_path: Path) -> None:
    assert sentence([0.0] * 5, tmp_path, "stn_frozen").startswith(
        "stn_frozen (a control) is exactly as good as cnn, seed by seed, at the same training time and computation (5 "
    )


def test_five_seeds_cannot_decide(tmp_path: Path) -> None:
    """The exact two-sided test over 5 seeds has no p below 2 / 2**5."""
    text = sentence([7.0, 7.2, 6.8, 7.1, 6.9], tmp_path)
    assert text.startswith("Cannot tell yet whether stn_affine is better or worse than cnn: so far it is 7.0 ± 0.2 ")
    assert (
        "points above it (5 seeds, Holm p = 0.062, given one tuning); clear of zero, yet 5 seeds cannot decide this, "
        in text
    )
    (needed,) = re.findall(r"cannot decide this, (\d+) could if what they show is the truth\.$", text)
    assert int(needed) > 5


@pytest.mark.usefixtures("seeds")
def test_eight_seeds_that_disagree(tmp_path: Path) -> None:
    text = sentence([-3.0, 4.0, -2.0, 5.0, 1.0, -1.0, 2.0, 3.0], tmp_path)
    assert "so far it is 1.1 ± 2.4 points above it" in text
    assert "8 seeds do not decide this" in text
    assert "cannot decide" not in text


@pytest.mark.parametrize(
    ("accuracies", "why"),
    [
        (["failed"] * 5, "all 5 runs of stn_affine failed"),
        (["diverged"] * 5, "all 5 runs of stn_affine diverged"),
        ([None] * 5, "all 5 runs of stn_affine are missing"),
        (["failed"], "the only run of stn_affine failed"),
        ([None, "failed", "failed"], "no run of stn_affine is completed (2 failed, 1 missing)"),
        ([], "stn_affine has no final run"),
        ([0.5], "one seed is no test"),
        ([0.5, "failed"], "one seed is no test"),
    ],
)
def test_untested(tmp_path: Path, accuracies: list[Any], why: str) -> None:
    findings = study_of(tmp_path, {"cnn": CNN, "stn_affine": accuracies})
    assert answer(findings)[0] == f"Nothing can be said of stn_affine against cnn yet: {why}."
    assert f"cannot tell yet whether learning where to look (a spatial transformer) helps: {why}" in headline(findings)


def test_the_baseline_is_to_blame(tmp_path: Path) -> None:
    findings = study_of(tmp_path, {"cnn": ["failed"] * 5, "stn_affine": CNN})
    assert "all 5 runs of cnn failed" in answer(findings)[0]


def test_no_seed_in_common(tmp_path: Path) -> None:
    findings = study_of(tmp_path, {"cnn": [0.5, 0.5, None, None], "stn_affine": [None, None, 0.5, 0.5]})
    assert "yet: no seed completed both" in answer(findings)[0]


def test_lost_runs_are_told(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    said = answer(find(tmp_path, STUDY))
    assert said[-1] == "7 of 20 final runs are not completed (2 failed, 1 diverged, 4 missing); they are in no mean."
    only = study_of(tmp_path / "one", {"cnn": CNN, "stn_affine": [0.5, 0.5, 0.5, 0.5, "failed"]})
    assert answer(only)[-1] == "1 of 10 final runs is not completed (1 failed); it is in no mean."
    assert "This leaves out 1 failed of 5 runs of stn_affine." in answer(only)[0]


def test_nothing_is_compared(tmp_path: Path) -> None:
    findings = study_of(tmp_path, {"cnn": CNN})
    assert answer(findings) == ("The study compares nothing: each variant is its own baseline.",)
    assert headline(findings) == "On Tiny (JPEG), nothing is compared: each variant is its own baseline."


@pytest.mark.usefixtures("seeds")
def test_costs_are_ratios_of_time_and_flops(tmp_path: Path) -> None:
    cnn, other = shifted([1.8, 2.0, 1.9, 1.7, 2.1, 1.8, 2.0, 1.9])
    for flops, words in ((3.72e11, "1.20 times"), (3.1e13, "100 times"), (6.3e11, "2.0 times")):
        ledger = tmp_path / words
        arms = [write_arm(ledger, "cnn", "cnn", cnn), write_arm(ledger, "stn_tps", "cnn", other, train_flops=flops)]
        write_study(ledger, arms)
        told = f"over cnn at the same training time and {words} the computation (8 seeds"
        assert told in answer(find(ledger, STUDY))[0]


@pytest.mark.parametrize(
    ("verdict", "words"), [("idle", "moves all images alike: idle in 5 of 5 runs"), ("working", "")]
)
def test_idle_transformers_are_told(tmp_path: Path, verdict: str, words: str) -> None:
    arms = [
        write_arm(tmp_path, "cnn", "cnn", CNN),
        write_arm(tmp_path, "stn_affine", "cnn", CNN, transformers=[transformer_record(verdict=verdict)] * 5),
    ]
    write_study(tmp_path, arms)
    (said,) = answer(find(tmp_path, STUDY))
    assert words in said
    assert ("transformer" in said) is bool(words)


def test_a_transformer_that_moves_nothing(tmp_path: Path) -> None:
    looks = [transformer_record(verdict="idle", identity_fraction=0.97)] * 5
    arms = [write_arm(tmp_path, "cnn", "cnn", CNN), write_arm(tmp_path, "stn_affine", "cnn", CNN, transformers=looks)]
    write_study(tmp_path, arms)
    assert "Its transformer leaves images as they are: idle in 5 of 5 runs." in answer(find(tmp_path, STUDY))[0]


def test_transformers_that_are_idle_in_several_ways(tmp_path: Path) -> None:
    """Their mean, 56 %, would say that all leave images as they are; what works says nothing of those that do not."""
    looks = [transformer_record(verdict="idle", identity_fraction=each) for each in (1.0, 1.0, 0.8, 0.0, 0.0)]
    arms = [write_arm(tmp_path, "cnn", "cnn", CNN), write_arm(tmp_path, "stn_affine", "cnn", CNN, transformers=looks)]
    write_study(tmp_path, arms)
    (card,) = verdicts(find(tmp_path, STUDY))
    both = "leaves images as they are or moves all alike"
    assert card.detail == f"the transformer of stn_affine did not learn to look: in every run it {both}"
    assert f"Its transformer {both}: idle in 5 of 5 runs." in answer(find(tmp_path, STUDY))[0]
    looks = [*looks[:2], *[transformer_record()] * 3]
    arms = [write_arm(tmp_path, "cnn", "cnn", CNN), write_arm(tmp_path, "stn_affine", "cnn", CNN, transformers=looks)]
    write_study(tmp_path, arms)
    assert "sometimes leaves images as they are: idle in 2 of 5" in answer(find(tmp_path, STUDY))[0]


@pytest.mark.parametrize(
    ("angle_r2", "words"),
    [
        ([-0.5, -0.52, -0.48, -0.51, -0.49], "do not follow those of the images (R² −0.50 ± 0.02)"),
        ([0.8, 0.7, 0.75, 0.9, 0.6], "Its turns follow those of the images (R² 0.75 ± 0.14)."),
        ([None] * 5, ""),
    ],
)
def test_whether_turns_are_followed_is_told(tmp_path: Path, angle_r2: list[float | None], words: str) -> None:
    """The half widths: 2.776 (of t with 4 degrees of freedom) times the standard error, by hand."""
    looks = [transformer_record(pose={"angle_r2": each}) for each in angle_r2]
    arms = [write_arm(tmp_path, "cnn", "cnn", CNN), write_arm(tmp_path, "stn_affine", "cnn", CNN, transformers=looks)]
    write_study(tmp_path, arms)
    (said,) = answer(find(tmp_path, STUDY))
    assert words in said and ("R²" in said) is bool(words)


@pytest.mark.usefixtures("seeds")
@pytest.mark.parametrize("angle_r2", [-0.5, 0.8])
def test_a_card_says_that_turns_are_not_followed(tmp_path: Path, angle_r2: float) -> None:
    cnn, better = shifted([5.0, 5.2, 4.9, 5.1, 5.0, 4.8, 5.3, 5.1])
    looks = [transformer_record(pose={"angle_r2": angle_r2})] * 8
    arms = [
        write_arm(tmp_path, "cnn", "cnn", cnn),
        write_arm(tmp_path, "stn_affine", "cnn", better, transformers=looks),
    ]
    write_study(tmp_path, arms)
    (card,) = verdicts(find(tmp_path, STUDY))
    assert card.decision == "better"
    assert ("its turns do not follow those of the images" in card.detail) == (angle_r2 < 0)


def test_some_collapse(tmp_path: Path) -> None:
    looks = [transformer_record(verdict=verdict) for verdict in ("idle", "idle", "collapsed", "working", "working")]
    arms = [
        write_arm(tmp_path, "cnn", "cnn", CNN),
        write_arm(tmp_path, "stn_affine", "cnn", CNN, transformers=looks),
    ]
    write_study(tmp_path, arms)
    (said,) = answer(find(tmp_path, STUDY))
    assert "sometimes moves all images alike: idle in 2 of 5 runs" in said
    assert "collapsed in 1 of 5 runs" in said


@pytest.mark.usefixtures("seeds")
def test_the_gap(tmp_path: Path) -> None:
    cnn, oracle = shifted([10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1, 9.9])
    _, stn = shifted([2.5, 2.6, 2.4, 2.5, 2.6, 2.4, 2.5, 2.5])
    findings = study_of(tmp_path, {"cnn": cnn, "oracle_unwarp": oracle, "stn_affine": stn})
    ceiling, ours = answer(findings)
    assert ceiling.startswith("oracle_unwarp (told each image's true pose) gains 10.0 ± 0.1 points over cnn")
    assert ceiling.endswith("That much is there to be won by undoing each image's pose.")
    assert re.search(r"It closes 25 % \[2\d, 2\d\] of the gap", ours)


@pytest.mark.usefixtures("seeds")
def test_headline_of_a_whole_study(tmp_path: Path) -> None:
    cnn, shown = shifted([6.0, 6.1, 5.9, 6.0, 6.1, 5.9, 6.0, 6.0])
    _, learned = shifted([-1.5, -1.6, -1.4, -1.5, -1.6, -1.4, -1.5, -1.5])
    _, both = shifted([6.1, 6.0, 6.0, 5.9, 6.2, 5.9, 6.0, 6.0])
    findings = study_of(
        tmp_path, {"cnn": cnn, "cnn+affine": shown, "stn_affine": learned, "stn_affine+affine": both}
    )  # fmt: skip
    assert headline(findings) == (
        "On Tiny (JPEG), trained on 6,000 images, 6 epochs, 282 steps, 32 px, tuned once: showing transformed copies "
        "in training helps (by 6.0 ± 0.1 points: cnn+affine over cnn at the same training time and computation); "
        "learning where to look (a spatial transformer) hurts (by 1.5 ± 0.1 points: stn_affine against cnn at the same "
        "training time and computation); adding a spatial transformer to augmentation adds nothing that matters "
        "(within 1 point: stn_affine+affine against cnn+affine at the same training time and computation); best "
        "of the four: stn_affine+affine, 57.1 %, not told apart from cnn+affine. Up to 31 % of such runs may collapse, "
        "for all that was seen."
    )
    assert [verdict.decision for verdict in verdicts(findings)] == ["better", "worse", "equivalent"]


def test_a_pose_of_its_own_is_told(tmp_path: Path) -> None:
    findings = study_of(tmp_path, {"cnn": CNN, "stn_affine": CNN}, pose="R")
    assert re.match(r"On Tiny \(JPEG\), turned images \(R\), trained on .* once: learning where to", headline(findings))
    assert answer(findings)[0].startswith("stn_affine is exactly as good as cnn")


def test_poses_are_told_apart(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, variant, "cnn", CNN, pose=pose)
        for pose in ("upright", "R:max_deg=30")
        for variant in ("cnn", "stn_affine")
    ]
    write_study(tmp_path, arms)
    findings = find(tmp_path, STUDY)
    first, second = answer(findings)
    assert first.startswith("Upright images (upright): stn_affine is exactly")
    assert second.startswith("Turned images (R:max_deg=30): stn_affine is exactly")
    assert "32 px, tuned once. Upright images (upright): learning" in headline(findings)


def test_many_alike_are_told_together(tmp_path: Path) -> None:
    others = {f"stn_affine:steps={n}": [a + 0.001 * n for a in CNN[:3]] for n in range(1, 8)}
    (said,) = answer(study_of(tmp_path, {"cnn": CNN[:3], **others}, claims={
        "alpha": 0.05, "margin": 1e-6, "declared": True,
        "family": [{"pose": "upright", "variant": v, "baseline": "cnn", "interaction": False} for v in others],
    }))  # fmt: skip
    assert said.startswith(
        "Cannot tell yet of 7 variants against cnn: so far from +0.1 ± 0.0 points (stn_affine:steps=1) to +0.7 ± 0.0 "
        "points (stn_affine:steps=7); clear of zero, yet 3 seeds cannot decide this"
    )


@pytest.mark.parametrize(
    ("variant", "baseline", "question"),
    [
        ("cnn+affine", "cnn", "augmentation"),
        ("cnn@lenet+affine:max_deg=5", "cnn@lenet", "augmentation"),
        ("stn_affine:place=shared", "cnn", "transformer"),
        ("stn_tps@lenet", "cnn@lenet", "transformer"),
        ("stn_affine+affine", "cnn+affine", "both"),
        ("oracle_unwarp", "cnn", "ceiling"),
        ("stn_random", "cnn", "control"),
        ("stn_rotation:localisation=deep:supervision=10", "cnn", "control"),
        ("stn_affine:steps=2", "stn_affine", "other"),
        ("stn_affine", "cnn+affine", "instead"),
        ("stn_affine+affine", "cnn", "together"),
        ("stn_affine+affine", "cnn+rotate", "other"),
        ("cnn+affine", "cnn+rotate", "other"),
        ("cnn_matched", "cnn", "other"),
        ("stn_affine", "cnn_matched", "transformer"),
        ("stn_affine", "oracle_unwarp", "other"),
        ("oracle_unwarp:noise_deg=20", "cnn", "control"),
        ("stn_affine+affine", "deformable+affine", "other"),
    ],
)
def test_questions(variant: str, baseline: str, question: str) -> None:
    roles = {name: model_said(name)[0] for name in (variant, baseline)}
    assert question_of(Claim("upright", variant, baseline), roles) == question
    assert question_of(Claim("upright", variant, baseline, interaction=True), roles) == "interaction"


def test_names_are_one_line(tmp_path: Path) -> None:
    findings = study_of(tmp_path, {"cnn": CNN, "stn_affine": CNN})
    file = tmp_path / "studies" / STUDY / "study.json"
    edit_json(file, task={"name": "folder", "label": "a\nb\x00", "content_hash": "c0" * 32, "classes": ["a"]})
    assert headline(findings).startswith("On Tiny (JPEG)")
    assert headline(find(tmp_path, STUDY)).startswith("On a b, trained on ")
