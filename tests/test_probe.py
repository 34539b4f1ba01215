"""The probe of a folder of images: sizes that fit the time, refusals, and what it concludes."""

import itertools
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.findings import find
from analysis.report.reproduce import commands
from experiments import probe
from experiments.arms import check_arm
from experiments.cli import main
from experiments.commands.options import find_study
from experiments.commands.probe import scope, time_text
from experiments.ledger import Ledger
from experiments.plan import Plan
from experiments.probe import advice, fit_to_time, load_probe, round_down, wall_seconds, with_seeds, with_sizes
from tests.image_folders import save
from tests.synthetic_ledger import STUDY, write_arm, write_study
from tests.tiny_study import write_sweep

FEW, MIN_EPOCHS = probe.FEW_TRAIN_IMAGES, probe.MIN_EPOCHS


def planned(train_images: int, test_images: int, minutes: float = 10.0) -> Plan:
    """A probe's plan on so many images, without any."""
    study = load_probe(Path("somewhere"), minutes, "cpu")
    protocol = replace(study.protocol, train_images=train_images, val_images=train_images // 4, test_images=test_images)
    arms = tuple(check_arm(study, "upright", index) for index in range(len(study.variants)))
    return Plan("probe", study, cast(Any, None), cast(Any, None), protocol, arms)


def test_a_probe_is_four_variants_three_claims_and_the_seeds_to_decide_them() -> None:
    study = load_probe(Path("somewhere"), 2.5, "cpu")
    assert (study.name, study.task, study.own_images, study.minutes) == ("probe-2-5min", "folder:somewhere", True, 2.5)
    assert [entry.variant for entry in study.variants] == ["cnn", "cnn+affine", "stn_affine", "stn_affine+affine"]
    assert study.claims.declared and len(study.claims.family) == 3
    assert 2 / 2**study.final_seeds <= study.claims.alpha / 3 < 2 / 2 ** (study.final_seeds - 1)


RATES = st.lists(st.floats(20, 1e5), min_size=4, max_size=4)


@given(
    train=st.integers(200, 100_000),
    test=st.integers(50, 20_000),
    rates=RATES,
    seconds=st.floats(-60, 1e5),
    workers=st.integers(1, 64),
)
def test_sizes_fit_the_time_and_use_it(
    train: int, test: int, rates: Sequence[float], seconds: float, workers: int
) -> None:
    plan = planned(train, test)
    fitted = fit_to_time(plan, rates, seconds, workers)
    images, epochs = fitted.protocol.train_images, fitted.protocol.epochs
    seeds = fitted.study.final_seeds
    assert fitted.study == replace(plan.study, final_seeds=seeds) and seeds >= plan.study.final_seeds
    assert min(FEW, train) <= images <= train and MIN_EPOCHS <= epochs <= plan.protocol.epochs
    assert fitted.protocol.test_images == min(test, 4 * images)
    least = images == min(FEW, train) and epochs == MIN_EPOCHS

    def takes(num_images: int, num_epochs: int) -> float:
        return wall_seconds(with_sizes(plan, num_images, num_epochs), rates, workers)

    assert least or wall_seconds(fitted, rates, workers) <= seconds
    if images < train:  # epochs give way first, then images, by no more than rounding
        assert epochs == MIN_EPOCHS
        assert takes(min(train, int(images * 1.11) + 2), MIN_EPOCHS) > seconds
    elif epochs < plan.protocol.epochs:
        assert takes(images, epochs + 1) > seconds
    elif seeds < probe.MAX_SEEDS:  # what is left goes into seeds
        assert wall_seconds(with_seeds(fitted, seeds + 1), rates, workers) > seconds
    assert seeds == plan.study.final_seeds or (images, epochs) == (train, plan.protocol.epochs)


def test_the_time_is_that_of_all_runs_side_by_side() -> None:
    """By hand: 4 arms at 100 images/s, 2 trials and 7 final runs each, 8 epochs of 1000 and 250 images."""
    plan = with_sizes(planned(1000, 300), 1000, 8)
    assert plan.protocol.robustness == "none"  # 64 images in 116 ways would take half as long as the training
    trial = 8 * (1000 + 250 / 3) / 100 + 0.5
    expected = 4 * (2 * trial + 7 * (trial + 300 / 3 / 100)) / 2
    assert wall_seconds(plan, [100.0] * 4, 2) == pytest.approx(expected)
    assert with_sizes(planned(50_000, 300), 50_000, 8).protocol.robustness == "quick"


@given(st.integers(1, 10**9))
def test_rounding_keeps_two_digits(number: int) -> None:
    rounded = round_down(number)
    assert rounded <= number < rounded * 1.1 + 1
    assert re.fullmatch(r"\d{1,2}0*", str(rounded))


DECISIONS = ("better", "worse", "equivalent", "undecided", "untested")


@pytest.mark.parametrize(("augmentation", "transformer", "both"), [*itertools.product(DECISIONS, repeat=3)])
def test_the_advice_says_no_more_than_was_decided(augmentation: str, transformer: str, both: str) -> None:
    text = advice(augmentation, transformer, both)
    assert text[0].isupper() and text.endswith(".") and "  " not in text
    parts = text[:-1].split("; ")
    helping = [part for part in parts if re.search(r"helps? here$|helps further$", part) and "not help" not in part]
    assert text.startswith("Yes") == (augmentation == both == "better")
    assert text.startswith("Augmentation is enough") == (augmentation == "better" and both in DECISIONS[1:3])
    if not text.startswith(("Yes", "Augmentation is enough", "Too early")):
        assert bool(helping) == ("better" in (augmentation, transformer, both))
        assert ("not help" in text) == bool({"worse", "equivalent"} & {augmentation, transformer, both})
        assert ("too early" in text) == bool({"undecided", "untested"} & {augmentation, transformer, both})
    if {augmentation, transformer, both} <= {"undecided", "untested"}:
        assert text == "Too early to say whether augmentation or a spatial transformer would help here."


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        (
            ("better", "worse", "equivalent"),
            "Augmentation is enough here: a spatial transformer adds nothing to it that",
        ),
        (("better", "better", "worse"), "Augmentation is enough here: a spatial transformer on top of it does harm."),
        (
            ("better", "undecided", "better"),
            "Yes, augmentation helps here, and a spatial transformer on top of it helps",
        ),
        (
            ("better", "worse", "undecided"),
            "Augmentation helps here; a spatial transformer by itself does not help here; "
            "of a spatial transformer on top of augmentation it is too early to say.",
        ),
        (
            ("worse", "equivalent", "worse"),
            "Augmentation, a spatial transformer by itself and a spatial transformer on top of augmentation do not ",
        ),
        (
            ("unripe", "idle", "unripe"),
            "A spatial transformer by itself did not learn to look, and so is untested; whether augmentation and a "
            "spatial transformer on top of augmentation help, this training is too short to tell.",
        ),
        (
            ("better", "unripe", "negligible"),
            "Augmentation is enough here: a spatial transformer adds nothing to it that",
        ),
        (
            ("unripe", "equivalent", "behind"),
            "A spatial transformer by itself does not help here; a spatial transformer "
            "on top of augmentation helps only behind the plain network; whether augmentation helps, this training is",
        ),
        (
            ("worse", "undecided", "better"),
            "A spatial transformer on top of augmentation helps here; augmentation does not",
        ),
    ],
)
def test_the_advice_in_words(decisions: tuple[str, str, str], expected: str) -> None:
    assert advice(*decisions).startswith(expected)


def test_the_advice_says_what_size_it_holds_for() -> None:
    text = advice("better", "better", "better", "384 images, 8 epochs, 48 steps, 32 px, tuned once")
    assert text.startswith("On 384 images, 8 epochs, 48 steps, 32 px, tuned once: yes, augmentation helps here, and")


def make_pictures(root: Path, per_class: int) -> Path:
    """Two classes that brightness tells apart, most of the time."""
    draw = np.random.default_rng(0)
    for name, level in (("dark & <small>_1%", 90), ("light", 160)):
        for index in range(per_class):
            pixels = np.clip(draw.normal(level, 30) + draw.normal(0, 20, (16, 16, 3)), 0, 255)
            save(root / name / f"{index:03}.png", pixels.astype(np.uint8))
    return root


def test_too_few_images_are_refused_kindly(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pictures(here / "pictures", 100)
    assert main(["probe", "pictures", "--minutes=1"]) == 2
    assert capsys.readouterr().err == (
        "error: path: pictures has 160 training and 40 test images, too few to tell anything; "
        "a probe takes 200 and 50 at least\n"
    )
    assert not (here / "runs").exists()


@pytest.mark.slow
def test_a_probe_answers_and_goes_on_where_it_was(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command on real files, with fewer seeds and shorter runs."""
    small = yaml.safe_load(probe.FILE.read_text())
    small |= {"final_seeds": 2, "budgets": {}}
    small["protocol"] |= {"epochs": 2, "val_images": 50, "precision": "fp32", "device": "cpu", "train_images": 0}
    small["search"] |= {"trials": 1}
    (here / "probe.yaml").write_text(yaml.safe_dump(small))
    monkeypatch.setattr(probe, "FILE", here / "probe.yaml")
    monkeypatch.setattr(probe, "MIN_EPOCHS", 1)
    monkeypatch.setattr(probe, "MAX_SEEDS", 2)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    make_pictures(here / "pictures", 150)
    assert main(["probe", "pictures", "--label=Pets & co_1%", "--minutes=20", "--jobs=1"]) == 0
    printed = capsys.readouterr().out
    ledger = Ledger(here / "runs", read_only=True)
    (study,) = ledger.studies()
    assert study.startswith("probe-20min-pets-co-1-")
    manifest = ledger.read_study(study)
    assert manifest["source"] == {"file": "experiments/studies/probe.yaml", "data": True, "minutes": 20.0}
    records = [ledger.read(key) for arm in manifest["arms"] for key in (*arm["trials"], *arm["finals"])]
    assert len(records) == 12 and {record["status"] for record in records} == {"completed"}
    assert {record["config"]["protocol"]["train_images"] for record in records} == {192}
    assert "2 seeds cannot decide any of 3 claims" in printed
    assert printed.index("Ablation on Pets & co_1%") < printed.index(
        "How sure: each variant was trained 2 times for 2 "
    )
    assert re.search(r"too early to say|too short to tell", printed)
    report = here / "reports" / study / "report.html"
    assert f"Report  {report.relative_to(here)}" in re.sub(" +", "  ", printed)
    assert "Pets &amp; co_1%" in report.read_text()

    # Another speed would give other sizes, and so other runs. The report need not be drawn again to see that.
    monkeypatch.setattr("analysis.report.write_report", lambda findings, out: report)
    monkeypatch.setattr("experiments.commands.probe.rates_of_arms", lambda *_: pytest.fail("measured again"))
    before = sorted(path.name for path in (here / "runs/runs").iterdir())
    (ledger.folder(manifest["arms"][3]["finals"][1]) / "run.json").unlink()  # as if it had been stopped before that run
    Ledger(here / "runs").remove(manifest["arms"][3]["finals"][1])
    assert main(["probe", "pictures", "--label=Pets & co_1%", "--minutes=20", "--jobs=1"]) == 0
    assert sorted(path.name for path in (here / "runs/runs").iterdir()) == before
    assert json.dumps(ledger.read_study(study)) == json.dumps(manifest)

    # What the report says to repeat it names the same runs.
    whole, _, single = commands(find_study(ledger, study))
    assert "experiments probe path/to/images --minutes 20 --label 'Pets & co_1%'" in whole.line
    arguments = shlex.split(single.line.replace("path/to/images", "pictures"))
    assert arguments[:3] == [".venv/bin/python", "-m", "experiments"]
    arguments[arguments.index("--sweep") + 1] = str(probe.FILE)
    assert main(arguments[3:]) == 0
    assert sorted(path.name for path in (here / "runs/runs").iterdir()) == before


@pytest.mark.parametrize(
    ("minutes", "missing_s", "said"),
    [
        (1.0, 40.0, "1 minute is too short for 7 seeds; about 2 are needed."),
        (0.5, 100.0, "0.5 minutes are too short for 7 seeds; about 3 are needed."),
    ],
)
def test_too_little_time_is_said(minutes: float, missing_s: float, said: str) -> None:
    assert time_text(minutes, missing_s, 7) == said


@pytest.mark.parametrize(("decision", "told"), [("equivalent", True), ("worse", True), ("undecided", False)])
def test_no_help_is_said_with_the_size_of_the_test(tmp_path: Path, decision: str, told: bool) -> None:
    arms = [write_arm(tmp_path, name, "cnn", [0.5, 0.52]) for name in ("cnn", "stn_affine")]
    write_study(tmp_path, arms, claims={"alpha": 0.05, "margin": 0.02, "declared": True, "family": []})
    text = scope(("better", decision, "better"), planned(1000, 180), find(tmp_path, STUDY))
    assert text == ("Seen on 180 test images; a gain of less than 2 points counts as none." if told else "")


def test_a_sweep_file_here_has_no_say(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here, name="../bad")
    assert main(["probe", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: folder 'nowhere': does not exist\n"
