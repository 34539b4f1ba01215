"""A study at several sizes of training: what may be a rung, what is made, and what is found."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.findings import find
from analysis.ladder import Climb, Step, missing_runs, still_changes, turn_of
from analysis.means import Mean
from analysis.report.method import facts
from analysis.statistics.trend import Trend
from analysis.tables import build_tables
from experiments.study.study import load_study
from experiments.sweep.sweep import Sweep
from ledger.config import Protocol, protocol_hash
from ledger.errors import UserError
from ledger.study import Claim
from tests.support.tiny_study import STUDY, TINY, HereAndNow, plan_of, sweep_here, write_sweep

LADDER: dict[str, Any] = {"rungs": [{"train_images": 32, "epochs": 1}, {"train_images": 64, "epochs": 1}]}


@pytest.mark.parametrize(
    ("ladder", "said"),
    [
        ({"rungs": []}, "rungs: [] is not a list of at least one"),
        ({"tuned_at": 1}, "rungs: is missing"),
        ({"rungs": [{}]}, "rungs[0]: has neither train_images nor epochs"),
        (
            {"rungs": [{"epochs": 1, "batch_size": 8}]},
            "rungs[0].batch_size: unknown key; known: epochs, train_images",
        ),
        ({"rungs": [{"train_images": 1}]}, "rungs[0].train_images: 1 is not between 2 and"),
        (LADDER | {"tuned_at": 3}, "tuned_at: 3 is not between 1 and 2"),
        ({"rungs": [{"epochs": 1}] * 9}, "rungs: has 9 entries; 8 are the most"),
    ],
)
def test_what_a_file_may_not_say(ladder: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^" + re.escape(f"{tmp_path / 'sweep.yaml'}: ladder.{said}")):
        load_study(write_sweep(tmp_path, ladder=ladder), "smoke")


@pytest.mark.parametrize(
    ("rungs", "said"),
    [
        ([{"epochs": 1}, {"epochs": 1}], "rung 1 (96 images x 1 epoch) does not rise to rung 2"),
        ([{"train_images": 64}, {"train_images": 32}], "rung 1 (64 images x 2 epochs) does not rise to rung 2"),
        (
            [{"train_images": 32, "epochs": 6}],
            "rung 1 (32 images x 6 epochs) does not rise to the study's own size",
        ),
        ([{"train_images": 96}], "rung 1 (96 images x 2 epochs) does not rise to the study's own size"),
        ([{"train_images": 5000}], "rung 1 (5,000 images x 2 epochs) does not rise to the study's own size"),
    ],
)
def test_rungs_that_do_not_rise(rungs: list[Any], said: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"ladder: {said}")):
        plan_of(tmp_path, ladder={"rungs": rungs})


def test_too_few_validation_images_to_tune_each_seed(tmp_path: Path, cache: Path) -> None:
    search, protocol = TINY["search"] | {"tuning": "per_seed"}, TINY["protocol"] | {"val_images": 40}
    with pytest.raises(UserError, match="tuning: per_seed needs 50 validation images or more, and there are 40"):
        plan_of(tmp_path, search=search, protocol=protocol)


def test_rungs_shrink_with_the_study_where_there_are_fewer_images(tmp_path: Path, cache: Path) -> None:
    protocol = TINY["protocol"] | {"train_images": 24_000, "val_images": 0}
    protocol |= {"val_images": 100, "test_images": 10}
    plan = plan_of(tmp_path, protocol=protocol, ladder={"rungs": [{"train_images": 12_000}]})
    assert plan.rungs[0].train_images == pytest.approx(plan.protocol.train_images / 2, abs=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Sweep:
    """Each seed tuned anew, at the first of two rungs."""
    search = TINY["search"] | {"tuning": "per_seed"}
    ladder = LADDER | {"tuned_at": 1}
    return sweep_here(tmp_path_factory.mktemp("ladder"), HereAndNow(), search=search, ladder=ladder, final_seeds=3)


def records(sweep: Sweep, keys: list[str]) -> list[Any]:
    return [sweep.ledger.read(key) for key in keys]


@pytest.mark.long
def test_each_seed_is_tuned_anew_with_the_same_luck_for_all_arms(made: Sweep) -> None:
    settings = []
    for arm in made.arms:
        trials = records(made, arm.trials)
        assert [trial["config"]["seed"] for trial in trials] == [-1, -1, -2, -2, -3, -3]
        assert {trial["protocol_hash"] for trial in trials} == {protocol_hash(made.plan.rungs[0])}
        settings.append([trial["config"]["optim"]["lr"] for trial in trials])
        best = [max(trials[i : i + 2], key=lambda trial: trial["result"]["val_accuracy"]) for i in (0, 2, 4)]
        assert arm.winners == [trial["key"] for trial in best]
        for keys in (arm.finals, *arm.rungs):
            finals = records(made, keys)
            assert [final["config"]["seed"] for final in finals] == [1, 2, 3]
            assert [final["config"]["optim"] for final in finals] == [trial["config"]["optim"] for trial in best]
    assert settings[0] == settings[1] and len(set(settings[0])) == 4  # the default, and a draw for each seed


@pytest.mark.long
def test_the_second_trial_of_a_transformer_does_almost_without_it(made: Sweep) -> None:
    factors = [trial["config"]["model"]["loc_lr_factor"] for trial in records(made, made.arms[1].trials)]
    assert factors == [0.1, 0.01] * 3


@pytest.mark.long
def test_rungs_are_protocols_of_their_own(made: Sweep) -> None:
    top, sizes = made.plan.protocol, [(32, 1), (64, 1)]
    for size, rung, *keys in zip(sizes, made.plan.rungs, *(arm.rungs for arm in made.arms), strict=True):
        for final in (final for of_arm in keys for final in records(made, of_arm)):
            protocol = Protocol(**final["config"]["protocol"])
            assert (protocol.train_images, protocol.epochs, protocol.robustness) == (*size, "none")
            assert final["protocol_hash"] == protocol_hash(rung) != protocol_hash(top)
            assert final["result"]["test_accuracy"] is not None


@pytest.mark.long
def test_nothing_is_made_twice(made: Sweep) -> None:
    again = Sweep(made.plan, made.ledger, store=False)
    again.replay()
    assert len(again.finished()) == made.plan.num_runs == 2 * (6 + 3 * 3) == again.num_finished
    assert [arm.keys for arm in again.arms] == [arm.keys for arm in made.arms]


@pytest.mark.long
def test_the_ledger_verifies(made: Sweep) -> None:
    from ledger.audit import audit

    assert not audit(made.ledger.root).findings


@pytest.mark.long
def test_tables_show_the_claims_at_each_size(made: Sweep) -> None:
    findings = find(made.ledger.root, STUDY)
    assert [(rung.train_images, rung.epochs) for rung in findings.study.rungs] == [(32, 1), (64, 1)]
    (climb,) = findings.climbs
    sizes = list(zip(*((*arm.rungs, arm.finals) for arm in made.arms), strict=True))
    for step, (baseline, variant) in zip(climb.steps, sizes, strict=True):
        scores = [[run["result"]["test_accuracy"] for run in records(made, keys)] for keys in (variant, baseline)]
        assert step.difference.value == pytest.approx(sum(scores[0]) / 3 - sum(scores[1]) / 3)
        assert step.keys == (*variant, *baseline)
    table = build_tables(findings)["ladder"]
    assert table.sections[0].table.columns[1:4] == ("32 x 1", "64 x 1", "96 x 2")
    assert len(findings.study.runs) == 2 * (6 + 3)  # runs of the rungs are in no other table


@pytest.mark.long
def test_a_ladder_with_runs_missing_says_which_and_nothing_else(made: Sweep, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made.ledger.root, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs/runs" / made.arms[0].rungs[1][0])
    findings = find(tmp_path / "runs", STUDY)
    assert missing_runs(findings.study) == {(64, 1): 1}
    assert not findings.climbs
    assert {fact.name: fact.value for fact in facts(findings)}["Of smaller training, too"] == "11 of 12"
    assert (
        "Nothing is said while runs are missing: 1 run of 64 images x 1 epoch."
        in build_tables(findings)["ladder"].notes[-1]
    )


@pytest.mark.long
def test_runs_of_another_rung_are_refused(made: Sweep, tmp_path: Path) -> None:
    import shutil

    from ledger.checksums import with_digest
    from ledger.errors import UserError

    shutil.copytree(made.ledger.root, tmp_path / "runs")
    file = tmp_path / "runs/studies" / STUDY / "study.json"
    study = json.loads(file.read_text())
    arm = study["arms"][0]
    arm["rungs"][0], arm["rungs"][1] = arm["rungs"][1], arm["rungs"][0]
    file.write_text(json.dumps(with_digest(study)))
    with pytest.raises(UserError, match=r"protocol"):
        find(tmp_path / "runs", STUDY)


@pytest.mark.parametrize(
    ("direction", "value", "change", "decision", "changes"),
    [
        ("settled", 0.02, 0.0, "better", False),
        ("open", 0.02, -0.01, "better", False),
        ("moving", 0.02, 0.01, "better", False),  # away from zero
        ("moving", 0.02, -0.01, "better", True),
        ("moving", -0.02, 0.01, "worse", True),
        ("moving", 0.001, 0.01, "equivalent", True),
        ("turning", -0.02, 0.03, "worse", True),
        ("turning", -0.02, 0.03, "undecided", False),  # it promises nothing
    ],
)
def test_a_ladder_takes_decisions_back(direction, value, change, decision, changes):
    steps = [Step(5000, 3, 1e12, Mean(value - change, 0.001, 7), ()), Step(10_000, 3, 2e12, Mean(value, 0.001, 7), ())]
    claim, trend = Claim("upright", "stn_affine", "cnn"), Trend(direction, 0.5, 0.01)
    climb = Climb(claim, tuple(steps), trend, Mean(change, 0.001, 7), change, None)
    why = still_changes(climb, decision)
    assert bool(why) == changes
    said = f"by {100 * change:+.1f} points a doubling".replace("-", "−")
    assert not changes or ("another sign" if (value - change) * value < 0 and direction == "turning" else said) in why


def stepped(*differences: float) -> list[Step]:
    """At 1, 4, 16 ... TFLOP."""
    return [Step(100, 1, 1e12 * 4**r, Mean(value, 0.01, 7), ()) for r, value in enumerate(differences)]


def test_the_place_of_zero_has_the_interval_of_a_t_test() -> None:
    """At its ends, and nowhere between, a t test of the differences on the line between both sizes has p = 0.05."""
    draw = np.random.default_rng(0)
    difference_RS = np.stack([draw.normal(mean, 0.008, 7) for mean in (-0.03, -0.02, 0.01)])
    found = turn_of(stepped(*difference_RS.mean(axis=1)), difference_RS)
    assert found is not None and 4e12 < found.low < found.train_flops < found.high

    def p(flops: float) -> float:
        share = np.log(flops / 4e12) / np.log(4)
        return float(stats.ttest_1samp((1 - share) * difference_RS[1] + share * difference_RS[2], 0).pvalue)

    assert p(found.low) == pytest.approx(0.05) and p(found.high) == pytest.approx(0.05)
    assert p(found.train_flops) == pytest.approx(1)
    assert p(0.9 * found.low) < 0.05 < p(1.1 * found.low)


@pytest.mark.parametrize("means", [(0.01, 0.02, 0.03), (-0.02, -0.01, 0.0)])
def test_a_difference_that_keeps_its_sign_turns_nowhere(means: tuple[float, ...]) -> None:
    difference_RS = np.array(means)[:, None] + np.linspace(-0.001, 0.001, 7)
    assert turn_of(stepped(*means), difference_RS) is None


@pytest.mark.parametrize("scatter", [0.05, 0.0108])
def test_a_turn_that_is_not_shown_or_hardly_has_no_place(scatter: float) -> None:
    """With the smaller scatter the change is just clear of 0, and the interval reaches beyond all computation."""
    spread = np.linspace(-1, 1, 7) * scatter
    difference_RS = np.array([-0.005 - spread, 0.005 + spread])
    assert turn_of(stepped(*difference_RS.mean(axis=1)), difference_RS) is None
