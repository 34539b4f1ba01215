"""The probe of a folder of images: augmentations tried, sizes that fit the time, refusals, and what it concludes."""

import json
import math
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from analysis.claims import COARSE, OTHER_IMAGES
from analysis.means import Mean
from analysis.report.reproduce import commands
from experiments.networks.variants import build_policy, parse_variant
from experiments.probe import sizes
from experiments.probe import study as probe_study
from experiments.probe.sizes import fit_to_time, min_epochs, round_down, wall_seconds, with_seeds, with_sizes
from experiments.probe.study import AUGMENTATIONS, augmentations, compared, load_probe, trying, with_margin
from experiments.study.arms import check_arms
from experiments.study.plan import Plan
from experiments.sweep.estimate import Estimate
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import main
from experiments.terminal.commands.ledgers import named_study
from experiments.terminal.commands.options import find_study
from experiments.terminal.commands.plan import show_plan
from experiments.terminal.commands.probe import answers_of
from ledger.config import num_steps
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import keys_of
from tests.support.image_folders import save
from tests.support.tiny_study import plan_of, write_sweep

FEW = sizes.FEW_TRAIN_IMAGES


def planned(train_images: int, test_images: int, minutes: float = 10.0) -> Plan:
    """A probe's plan on so many images, without any."""
    study = compared(load_probe(Path("somewhere"), minutes, "cpu"), "d4")
    protocol = replace(study.protocol, train_images=train_images, val_images=train_images // 4, test_images=test_images)
    task: Any = SimpleNamespace(classes=range(10), num_channels=3)
    return Plan("probe", study, task, cast(Any, None), protocol, check_arms(study))


def test_a_probe_is_four_variants_three_claims_and_the_seeds_to_decide_them() -> None:
    study = compared(load_probe(Path("somewhere"), 2.5, "cpu"), "d4:mirror=false")
    assert (study.name, study.task, study.own_images) == ("advice-2-5min", "folder:somewhere", True)
    with_copies = ["cnn+d4:mirror=false", "stn_affine+d4:mirror=false"]
    assert list(study.variants) == ["cnn", with_copies[0], "stn_affine", with_copies[1]]
    assert study.claims.declared and [(claim.variant, claim.baseline) for claim in study.claims.family] == [
        (with_copies[0], "cnn"),
        ("stn_affine", "cnn"),
        (with_copies[1], with_copies[0]),
    ]
    assert 2 / 2**study.final_seeds <= study.claims.alpha / 3 < 2 / 2 ** (study.final_seeds - 1)


def test_what_was_asked_is_in_the_name() -> None:
    study = load_probe(Path("somewhere"), 10, "cpu", turns="any", mirror="no")
    assert study.name == "advice-10min-turns-any-mirror-no"
    assert study.asked == {"minutes": 10, "turns": "any", "mirror": "no"}


def test_other_groups_are_another_question_and_the_name_does_not_tell_them() -> None:
    groups = ("", "folder", "csv:patients.csv:id")
    names = [load_probe(Path("somewhere"), 10, "cpu", group=group, turns="any").name for group in groups]
    assert names[0] == "advice-10min-turns-any" and len({*names}) == 3
    assert all(re.fullmatch("advice-10min-turns-any-group-[0-9a-f]{6}", name) for name in names[1:])


def test_only_the_plan_of_a_sweep_file_sends_to_make_look(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(here)
    expected = Estimate([[1.0, 1.0]] * len(plan.arms), {}, 0, [], 0.0, 0.0, 0.0)
    for asked in ({}, {"minutes": 2}):
        study = replace(plan.study, asked=asked)
        under_way = Sweep(replace(plan, study=study), Ledger(here / "runs", read_only=True), store=False)
        under_way.replay()
        show_plan(Console(), under_way, expected, 1, "")
        assert ("make look" in capsys.readouterr().out) == (not asked)


def test_keys_of_its_protocol_can_be_set_and_make_another_question() -> None:
    study = load_probe(Path("somewhere"), 2.5, "cpu", given=["protocol.image_px=64 protocol.width=0.5"])
    assert (study.protocol.image_px, study.protocol.width) == (64, 0.5)
    assert study.name == "advice-2-5min-image_px-64-width-0-5"
    assert study.overrides["protocol.image_px"] == {"was": 32, "now": 64}
    with pytest.raises(UserError, match=r"SET: final_seeds: a probe takes keys of its protocol only"):
        load_probe(Path("somewhere"), 10, "cpu", given=["final_seeds=3"])


@pytest.mark.parametrize(
    ("turns", "mirror", "expected"),
    [
        ("", "", [each.policy for each in AUGMENTATIONS]),
        ("", "no", ["flip_crop:mirror=none", "affine", "d4:mirror=false", "rotate:max_deg=180"]),
        ("quarter", "", ["d4:mirror=false", "d4"]),
        ("any", "yes", ["rotate:max_deg=180+flip_crop"]),
        ("none", "no", ["flip_crop:mirror=none"]),
        ("small", "no", ["affine"]),
    ],
)
def test_what_is_tried_follows_what_the_user_knows(turns: str, mirror: str, expected: list[str]) -> None:
    assert [each.policy for each in augmentations(turns, mirror)] == expected


def test_every_augmentation_of_unmirrored_images_leaves_them_unmirrored() -> None:
    for each in AUGMENTATIONS:
        policies = build_policy(parse_variant(f"cnn+{each.policy}"), {})
        mirrors = "d4" in each.policy and policies.mirror is True  # type: ignore[attr-defined]
        mirrors |= "flip_crop" in each.policy and "mirror=none" not in each.policy
        assert mirrors == each.mirror == ("mirror" in each.words)


@pytest.mark.parametrize(
    ("turns", "mirror", "said"),
    [
        ("quater", "", "turns: 'quater' is not one of none, small, quarter, any; did you mean 'quarter'?"),
        ("any", "nope", "mirror: 'nope' is not one of yes, no; known: no, yes"),
    ],
)
def test_a_misspelt_say_is_refused(turns: str, mirror: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        augmentations(turns, mirror)


def test_augmentations_are_tried_once_and_on_validation_images_alone() -> None:
    study = trying(load_probe(Path("somewhere"), 10, "cpu"), augmentations("quarter", ""))
    assert study.name == "advice-10min-tried" and not study.claims.family
    assert list(study.variants) == ["cnn+d4:mirror=false", "cnn+d4"]
    assert (study.search.trials, study.final_seeds) == (1, 0)


RATES = st.lists(st.floats(20, 1e5), min_size=4, max_size=4)


@given(
    train=st.integers(200, 100_000),
    test=st.integers(50, 20_000),
    rates=RATES,
    seconds=st.floats(-60, 1e5),
    workers=st.integers(1, 64),
    tried=st.integers(0, 8),
)
def test_sizes_fit_the_time_and_use_it(train, test, rates, seconds, workers, tried):
    plan = planned(train, test)

    def takes(num_images: int, num_epochs: int) -> float:
        return wall_seconds(with_sizes(plan, num_images, num_epochs), rates, workers, tried)

    def least(num_images: int) -> int:
        return min_epochs(num_images, plan.protocol)

    try:
        fitted = fit_to_time(plan, rates, seconds, workers, tried)
    except UserError:
        few = min(FEW, train)
        assert takes(few, least(few)) > seconds
        return
    images, epochs, seeds = fitted.protocol.train_images, fitted.protocol.epochs, fitted.study.final_seeds
    assert wall_seconds(fitted, rates, workers, tried) <= seconds
    assert min(FEW, train) <= images <= train and least(images) <= epochs <= plan.protocol.epochs
    assert epochs >= sizes.MIN_EPOCHS and num_steps(images, plan.protocol.batch_size, epochs) >= sizes.MIN_STEPS
    assert fitted.protocol.test_images == min(test, 4 * images)
    assert fitted.rungs[0].epochs == epochs // 4
    assert {rung.train_images for rung in fitted.rungs} == {images}
    if images < train:  # epochs give way first, then images, by no more than rounding
        assert epochs == least(images)
        more = min(train, int(images * 1.11) + 2)
        assert epochs > sizes.MIN_EPOCHS or takes(more, least(more)) > seconds
    elif epochs < plan.protocol.epochs:
        assert takes(images, epochs + 1) > seconds
    elif len(fitted.rungs) == 2 and seeds < sizes.MAX_SEEDS:  # what is left goes into a rung, and then into seeds
        assert wall_seconds(with_seeds(fitted, seeds + 1), rates, workers, tried) > seconds
    assert seeds == plan.study.final_seeds or len(fitted.rungs) == 2
    assert len(fitted.rungs) == 1 or (images, epochs) == (train, plan.protocol.epochs)


def test_the_time_is_that_of_all_runs_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 4 arms at 100 images/s, 2 trials, 7 final runs, 7 of a quarter of the epochs each, and 3 runs before.

    Of each of the three phases half a run more, for which one of the two workers may have to wait.
    """
    monkeypatch.setattr("experiments.sweep.estimate._share_of_flops", lambda *_: 1 / 3)
    plan = with_sizes(planned(1000, 300), 1000, 8)
    assert plan.protocol.robustness == "none"  # 64 images in 116 ways would take half as long as the training
    trial = 8 * (1000 + 250 / 3) / 100 + 0.5
    quarter, tested = 2 * (1000 + 250 / 3) / 100 + 0.5, 300 / 3 / 100
    runs = 3 * trial + 4 * 2 * trial + 4 * 7 * (trial + quarter + 2 * tested)
    assert wall_seconds(plan, [100.0] * 4, 2, 3) == pytest.approx(runs / 2 + (trial + trial + trial + tested) / 2)
    assert with_sizes(planned(50_000, 300), 50_000, 8).protocol.robustness == "quick"


def test_too_little_time_is_refused_with_what_would_do() -> None:
    plan = planned(1000, 300, minutes=1)
    with pytest.raises(UserError) as raised:
        fit_to_time(plan, [100.0] * 4, 60, 2)
    needed_s = wall_seconds(with_sizes(plan, 500, 38), [100.0] * 4, 2)  # 8 steps an epoch
    assert str(raised.value) == (
        "minutes: 1 are too few here to train 4 variants 7 times for 304 steps, the least that tells anything; "
        f"about {math.ceil(1 + (needed_s - 60) / 60)} would do"
    )


@given(st.integers(1, 10**9))
def test_rounding_keeps_two_digits(number: int) -> None:
    rounded = round_down(number)
    assert rounded <= number < rounded * 1.1 + 1
    assert re.fullmatch(r"\d{1,2}0*", str(rounded))


@pytest.mark.parametrize(("commonest", "margin"), [(0.1, 0.02), (0.97, 0.006), (0.9999, 0.0001)])
def test_where_less_can_be_gained_less_matters(commonest: float, margin: float) -> None:
    study = with_margin(load_probe(Path("somewhere"), 10, "cpu"), commonest)
    assert study.claims.margin == pytest.approx(margin)


@pytest.mark.parametrize("why", [OTHER_IMAGES, COARSE, "", "trained too short"])
def test_too_few_images_are_told_from_other_reasons(why: str) -> None:
    plan = planned(1000, 300)
    of_each = [
        SimpleNamespace(claim=claim, decision="undecided", difference=Mean(0.01, 0.02, 7), why=why, climb=None)
        for claim in plan.claims.family
    ]
    answers = answers_of(cast(Any, SimpleNamespace(claims=of_each)), plan)
    assert [each.lacks_images for each in answers] == [why in (OTHER_IMAGES, COARSE)] * 3


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


@pytest.mark.long
@pytest.mark.slow
def test_a_probe_answers_and_goes_on_where_it_was(here, capsys, monkeypatch):
    """The real command on real files, with fewer seeds and shorter runs."""
    small = yaml.safe_load(probe_study.FILE.read_text())
    small |= {"final_seeds": 2, "budgets": {}}
    small["protocol"] |= {"epochs": 2, "val_images": 50, "precision": "fp32", "device": "cpu", "train_images": 0}
    small["search"] |= {"trials": 1}
    (here / "advice.yaml").write_text(yaml.safe_dump(small))
    monkeypatch.setattr(probe_study, "FILE", here / "advice.yaml")
    monkeypatch.setattr(sizes, "MIN_EPOCHS", 1)
    monkeypatch.setattr(sizes, "MIN_STEPS", 1)
    monkeypatch.setattr(sizes, "MAX_SEEDS", 2)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    make_pictures(here / "pictures", 150)
    assert main(["probe", "pictures", "--label=Pets & co_1%", "--minutes=20", "--turns=quarter", "--jobs=1"]) == 0
    printed = capsys.readouterr().out
    ledger = Ledger(here / "runs", read_only=True)
    study, tried = sorted(ledger.studies())
    assert study.startswith("advice-20min-turns-quarter-pets-co-1-")
    assert tried.startswith("advice-20min-turns-quarter-tried-pets-co-1-")
    manifest = ledger.read_study(study)
    assert manifest["source"] == {
        "file": "experiments/studies/advice.yaml",
        "data": True,
        "minutes": 20.0,
        "turns": "quarter",
    }
    records = [ledger.read(key) for arm in manifest["arms"] for key in keys_of(arm)]
    assert len(records) == 20 and {record["status"] for record in records} == {"completed"}
    by_policy = {arm["variant"]: ledger.read(arm["trials"][0]) for arm in ledger.read_study(tried)["arms"]}
    assert {record["config"]["stage"] for record in by_policy.values()} == {"trial"}
    best = max(by_policy, key=lambda name: by_policy[name]["result"]["val_accuracy"])
    assert [arm["variant"] for arm in manifest["arms"]][1] == best
    assert {record["config"]["protocol"]["train_images"] for record in records} == {192}
    assert "2 seeds cannot decide any of 3 claims" in printed
    assert printed.index("Ablation on Pets & co_1%") < printed.index(
        "How sure: each variant was trained 2 times for 2 "
    )
    words = re.sub(r"\s+", " ", printed)
    assert words.count("It cannot be told in 20 minutes whether") == 1 and "On Pets & co_1%" not in words
    again = "make probe DATA=pictures MINUTES=60 TURNS=quarter 'LABEL=Pets & co_1%' JOBS=1"
    assert f"`{again}`" in printed or "test images are too few" in printed
    assert printed.index("First, 2 kinds of augmentation are tried once each, for 2 epochs") < printed.index(
        "quarter turns"
    )
    report = here / "reports" / study / "report.html"
    assert re.sub(" +", "  ", printed).endswith(f"Report  {report.relative_to(here)}\n")
    assert printed.count("report.html") == 1
    assert "Pets &amp; co_1%" in report.read_text()

    # What only chose the augmentation is not what there is to report, although it may be the latest.
    os.utime(here / "runs/studies" / tried / "study.json")
    assert ledger.studies()[0] == tried and named_study(ledger, "") == study

    # Another speed would give other sizes, and so other runs. The report need not be drawn again to see that.
    monkeypatch.setattr("analysis.report.write_report", lambda findings, out: report)
    monkeypatch.setattr("experiments.terminal.commands.probe.rates_of_arms", lambda *_: pytest.fail("measured again"))
    before = sorted(path.name for path in (here / "runs/runs").iterdir())
    (ledger.folder(manifest["arms"][3]["finals"][1]) / "run.json").unlink()  # as if it had been stopped before that run
    Ledger(here / "runs").remove(manifest["arms"][3]["finals"][1])
    assert main(["probe", "pictures", "--label=Pets & co_1%", "--minutes=20", "--turns=quarter", "--jobs=1"]) == 0
    assert sorted(path.name for path in (here / "runs/runs").iterdir()) == before
    assert json.dumps(ledger.read_study(study)) == json.dumps(manifest)

    # What the report says to repeat it names the same runs.
    whole, _, single = commands(find_study(ledger, study))
    assert ".venv/bin/stn-bench probe path/to/images --minutes 20 --turns quarter --label 'Pets & co_1%'" in whole.line
    arguments = shlex.split(single.line.replace("path/to/images", "pictures"))
    assert arguments[:2] == [".venv/bin/stn-bench", "run"]
    arguments[arguments.index("--sweep") + 1] = str(probe_study.FILE)
    assert main(arguments[1:]) == 0
    assert sorted(path.name for path in (here / "runs/runs").iterdir()) == before


def test_a_sweep_file_here_has_no_say(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here, name="../bad")
    assert main(["probe", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: folder 'nowhere': does not exist\n"
