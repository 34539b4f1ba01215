"""Tuning one arm: the same questions whoever asks and whenever, told in order, pruned and won as Optuna would."""

import json
import math
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from experiments.study.arms import ArmPlan
from experiments.study.search import ArmSearch, Score, Setting, distribution, open_storage
from experiments.study.search_space import Parameter
from experiments.study.study import Search
from tests.support.project import ROOT

LR = Parameter("optim.lr", "float", 0.02, 0.5, log=True)
DECAY = Parameter("optim.weight_decay", "categorical", choices=(1e-4, 5e-4, 1e-3))
TURN = Parameter("policy.max_deg", "int", 5, 45, step=5)
SPACE = (LR, DECAY, TURN)
DEFAULTS = {"optim.lr": 0.1, "optim.weight_decay": 5e-4, "policy.max_deg": 15.0, "policy.max_shift": 0.1}


def search_of(
    name: str = "upright/cnn",
    parameters: Sequence[Parameter] = SPACE,
    defaults: dict[str, Any] = DEFAULTS,
    plain: dict[str, Any] | None = None,
    storage: Any = None,
    **changes: Any,
) -> ArmSearch:
    arm = ArmPlan("R", "v", "v", tuple(parameters), defaults, plain or {})
    search = Search(**{"trials": 16, "pruner_warmup_trials": 3} | changes)
    return ArmSearch(name, search, arm, storage)


def score_of(setting: Setting) -> Score:
    """A made-up result: better the closer the rate is to 0.3, with a bump for one weight decay."""
    accuracy = (
        0.6 - 0.1 * math.log(float(setting["optim.lr"]) / 0.3) ** 2 + 0.05 * (setting["optim.weight_decay"] == 1e-3)
    )
    return Score("completed", [accuracy / 2, accuracy])


def go_through(arm: ArmSearch, result: Callable[[Setting], Score] = score_of) -> list[list[Setting]]:
    """All waves of the arm."""
    waves = []
    while wave := arm.next_wave():
        waves.append(wave)
        arm.tell([result(setting) for setting in wave], [f"key{index}" for index in range(len(wave))])
    return waves


def propose(name: str = "upright/cnn", parameters: Sequence[Parameter] = SPACE, **changes: Any) -> list[list[Setting]]:
    return go_through(search_of(name, parameters, **changes))


def test_the_first_trial_is_the_default() -> None:
    assert propose()[0][0] == DEFAULTS


def test_the_first_trial_is_as_near_to_the_default_as_the_space_allows() -> None:
    parameters = (
        Parameter("optim.lr", "float", 0.2, 0.5, log=True),
        Parameter("optim.weight_decay", "categorical", choices=(1.0, 1e-3)),
        Parameter("policy.max_deg", "int", 0, 40, step=20),
        Parameter("policy.max_shift", "float", 0.3, 0.9, step=0.1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a value that is not in its range
        first = propose(parameters=parameters, trials=1)[0][0]
    assert first == {"optim.lr": 0.2, "optim.weight_decay": 1e-3, "policy.max_deg": 20.0, "policy.max_shift": 0.3}


def test_what_is_not_tuned_has_its_default_in_every_trial() -> None:
    settings = [setting for wave in propose() for setting in wave]
    assert all(list(setting) == list(DEFAULTS) for setting in settings)
    assert {setting["policy.max_shift"] for setting in settings} == {0.1}
    assert all(type(value) is float for setting in settings for value in setting.values())  # 5 as 5.0
    assert len({setting["optim.lr"] for setting in settings}) == len(settings)


def test_values_are_of_the_type_of_the_default() -> None:
    """Numbers that are equal would make different keys otherwise."""
    parameters = (
        Parameter("model.size", "int", 1, 2),
        Parameter("model.stage", "int", 1, 2),
        Parameter("model.padding", "categorical", choices=("border", "zeros")),
        Parameter("model.anti_alias", "categorical", choices=(True, False)),
        Parameter("model.prior", "categorical", choices=(0.0, 1.0)),
    )
    defaults: Setting = {"model.size": 1.0, "model.stage": 1, "model.padding": "zeros", "model.anti_alias": False}
    defaults |= {"model.prior": 0.0, "model.place": "input"}
    arm = search_of("upright/stn_affine", parameters, defaults, trials=24, wave_size=6)
    settings = [setting for wave in go_through(arm, lambda _: Score("completed", [0.5])) for setting in wave]
    assert settings[0] == defaults
    for name, value in defaults.items():
        assert {type(setting[name]) for setting in settings} == {type(value)}
        assert len({setting[name] for setting in settings}) == (1 if name == "model.place" else 2)


@pytest.mark.parametrize(
    ("trials", "wave_size", "waves"), [(1, 4, [1]), (3, 4, [3]), (4, 4, [4]), (10, 4, [4, 4, 2]), (5, 1, [1] * 5)]
)
def test_trials_come_in_waves(trials: int, wave_size: int, waves: list[int]) -> None:
    assert [len(wave) for wave in propose(trials=trials, wave_size=wave_size)] == waves


def test_a_wave_must_be_told_whole_before_the_next() -> None:
    arm = search_of()
    arm.next_wave()
    with pytest.raises(ValueError, match=r"^upright/cnn: the last wave has not been told$"):
        arm.next_wave()
    with pytest.raises(ValueError, match="zip"):
        arm.tell([Score("completed", [0.5])], ["key"])


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_scores_give_the_same_proposals(sampler: str) -> None:
    before = propose(sampler=sampler)
    random.seed(1)
    np.random.seed(1)
    assert propose(sampler=sampler) == before


ELSEWHERE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests.experiments.study.test_search import propose
print(json.dumps([propose(sampler=sampler, trials=20) for sampler in ("tpe", "random")]))
"""


@pytest.mark.long
def test_another_process_makes_the_same_proposals() -> None:
    command = [sys.executable, "-c", ELSEWHERE, str(ROOT)]
    seed = {"PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    printed = subprocess.run(command, env=os.environ | seed, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == [propose(sampler=sampler, trials=20) for sampler in ("tpe", "random")]


def test_a_stored_study_proposes_as_one_in_memory_does(tmp_path: Path) -> None:
    arm = search_of(storage=open_storage(tmp_path / "optuna.log"))
    assert go_through(arm) == propose()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_more_trials_begin_with_the_same_ones(sampler: str) -> None:
    assert propose(sampler=sampler, trials=24)[:4] == propose(sampler=sampler, trials=16)


def rates(waves: list[list[Setting]]) -> list[float]:
    return [float(setting["optim.lr"]) for wave in waves for setting in wave]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_seed_changes_all_proposals_but_the_first(sampler: str) -> None:
    one, other = rates(propose(sampler=sampler)), rates(propose(sampler=sampler, seed=1))
    assert one[0] == other[0]
    assert not set(one[1:]) & set(other[1:])


def test_arms_share_their_draws_until_results_steer_the_search() -> None:
    extra = Parameter("model.loc_lr_factor", "float", 0.01, 1.0, log=True)
    for parameters in (SPACE, (extra, *SPACE)):
        arm = search_of("R/stn", parameters, DEFAULTS | {extra.name: 0.1}, trials=24)
        one, other = rates(propose(trials=24)), rates(go_through(arm))
        assert one[:12] == other[:12]  # three waves of four: the last that begins before ten are told
        assert not set(one[12:]) & set(other[12:])
    random_arms = [rates(propose(name, sampler="random", trials=24)) for name in ("upright/cnn", "R/cnn")]
    assert random_arms[0] == random_arms[1]


def test_only_tpe_learns_from_the_scores() -> None:
    def reversed_score(setting: Setting) -> Score:
        accuracies = score_of(setting).val_accuracies
        return Score("completed", [1 - accuracy for accuracy in accuracies])

    for sampler, learns in (("tpe", True), ("random", False)):
        arm = search_of(sampler=sampler, trials=24)
        assert (go_through(arm, reversed_score) != propose(sampler=sampler, trials=24)) == learns
    late = [setting["optim.lr"] for wave in propose(trials=60)[5:] for setting in wave]
    drawn = [setting["optim.lr"] for wave in propose(trials=60, sampler="random")[5:] for setting in wave]
    far = [np.mean(np.abs(np.log(np.array(rates) / 0.3))) for rates in (late, drawn)]
    assert far[0] < 0.7 * far[1]


def test_scores_are_told_in_the_order_of_the_wave() -> None:
    arm = search_of(trials=4)
    wave = arm.next_wave()
    scores = [Score("completed", [0.1, 0.4]), Score("pruned", [0.2]), Score("completed", [0.3, 0.2])]
    scores.append(Score("failed", []))
    arm.tell(scores, ["a", "b", "c", "d"])
    trials = arm.study.trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert [trial.params["optim.lr"] for trial in trials] == [setting["optim.lr"] for setting in wave]
    assert [trial.user_attrs["run"] for trial in trials] == ["a", "b", "c", "d"]
    assert [trial.value for trial in trials if trial.state == TrialState.COMPLETE] == [0.4, 0.2]
    assert arm.study.best_trial.number == 0


@pytest.mark.parametrize(
    ("score", "state", "values"),
    [
        (Score("completed", [0.2, 0.5]), TrialState.COMPLETE, {1: 0.2, 2: 0.5}),
        (Score("pruned", [0.2]), TrialState.PRUNED, {1: 0.2}),
        (Score("diverged", [0.2]), TrialState.PRUNED, {1: 0.2}),
        (Score("diverged", []), TrialState.PRUNED, {1: 0.0}),
        (Score("failed", []), TrialState.FAIL, {}),
    ],
)
def test_how_a_run_ended_is_a_state_of_its_trial(tmp_path, score, state, values):
    arm = search_of(storage=open_storage(tmp_path / "optuna.log"), trials=1)
    go_through(arm, lambda setting: score)
    (trial,) = arm.study.trials
    assert (trial.state, trial.intermediate_values) == (state, values)
    assert trial.user_attrs == {"run": "key0", "status": score.status}


def test_tpe_keeps_away_from_where_runs_fail() -> None:
    def result(setting: Setting) -> Score:
        return Score("diverged", []) if float(setting["optim.lr"]) > 0.1 else Score("completed", [0.5])

    late = []
    for name in ("a", "b", "c"):
        arm = search_of(name, trials=60)
        late += [rate > 0.1 for rate in rates(go_through(arm, result)[5:])]
    assert np.mean(late) < 0.4  # half of the range, on its logarithm, lies above 0.1


def test_the_second_trial_tries_to_do_without_what_is_tuned() -> None:
    """At the rate that other arms have there, so that a variant's settings contain those of the one without it."""
    factor = Parameter("model.loc_lr_factor", "float", 0.001, 1.0, log=True)
    defaults = DEFAULTS | {"model.loc_lr_factor": 0.1}
    plain = {"model.loc_lr_factor": 0.0, "model.other": 1.0}
    arm = search_of("a", (*SPACE, factor), defaults, plain=plain, trials=4)
    settings = [setting for wave in go_through(arm) for setting in wave]
    without = [setting for wave in propose(trials=4) for setting in wave]
    assert [setting["model.loc_lr_factor"] == 0.001 for setting in settings] == [False, True, False, False]
    assert [{name: setting[name] for name in DEFAULTS} for setting in settings] == without


# Accuracies are multiples of 1/64, so that both medians are exact.
ACCURACY = st.integers(0, 64).map(lambda number: number / 64)
CURVE = st.lists(ACCURACY, min_size=1, max_size=4).map(sorted)


@given(
    finished=st.lists(st.tuples(st.booleans(), st.lists(ACCURACY, min_size=4, max_size=4)), min_size=0, max_size=7),
    curve=CURVE,
    warmup_trials=st.integers(1, 4),
    warmup_epochs=st.integers(0, 3),
)
def test_bars_decide_as_optunas_median_pruner(finished, curve, warmup_trials, warmup_epochs):
    """Of curves that rise: Optuna judges a trial by its best epoch so far, the bar by the last one."""
    warmup = {"pruner_warmup_trials": warmup_trials, "pruner_warmup_epochs": warmup_epochs}
    arm = search_of(pruner="median", trials=len(finished) + 1, wave_size=1, sampler="random", **warmup)
    for completed, accuracies in finished:
        arm.next_wave()
        arm.tell([Score("completed", accuracies) if completed else Score("pruned", accuracies[:2])], [""])
    bars = arm.prune_below(4)
    below = [accuracy < bar for accuracy, bar in zip(curve, bars, strict=False)]

    arm.study.pruner = optuna.pruners.MedianPruner(warmup_trials, warmup_epochs + 1, interval_steps=1)
    trial = arm.study.ask(arm.distributions)
    expected = []
    for epoch, accuracy in enumerate(curve, start=1):
        trial.report(accuracy, epoch)
        expected.append(trial.should_prune())
    assert (below or [False] * len(curve)) == expected


def test_nothing_is_pruned_where_nobody_asks_for_it() -> None:
    arm = search_of(pruner="none")
    go_through(arm)
    assert arm.prune_below(2) == ()


def test_bars_are_of_the_waves_that_ended() -> None:
    arm = search_of(pruner="median", pruner_warmup_trials=2)
    arm.next_wave()
    assert arm.prune_below(2) == ()
    scores = [[0.1, 0.25], [0.3, 0.75], [0.2, 0.5], [0.9, 0.875]]
    arm.tell([Score("completed", score) for score in scores], ["a", "b", "c", "d"])
    assert arm.prune_below(3) == (0.0, 0.625, 0.0)
    arm.next_wave()
    assert arm.prune_below(3) == (0.0, 0.625, 0.0)


KINDS = {
    "float": (Parameter("model.x", "float", 0.5, 2.0), FloatDistribution(0.5, 2.0)),
    "float over logarithms": (Parameter("model.x", "float", 0.5, 2.0, log=True), FloatDistribution(0.5, 2.0, log=True)),
    "float in steps": (Parameter("model.x", "float", 0.5, 2.0, step=0.5), FloatDistribution(0.5, 2.0, step=0.5)),
    "int": (Parameter("model.x", "int", 1, 9), IntDistribution(1, 9)),
    "int over logarithms": (Parameter("model.x", "int", 1, 64, log=True), IntDistribution(1, 64, log=True)),
    "int in steps": (Parameter("model.x", "int", 2, 8, step=2), IntDistribution(2, 8, step=2)),
    "choices": (Parameter("model.x", "categorical", choices=(3, 0.5)), CategoricalDistribution((3, 0.5))),
    "a constant": (Parameter("model.x", "categorical", choices=(7,)), CategoricalDistribution((7,))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_parameter_has_its_distribution(kind: str) -> None:
    parameter, expected = KINDS[kind]
    assert distribution(parameter) == expected
    arm = search_of("upright/cnn", [parameter], {"model.x": 1.0}, sampler="random", trials=40, wave_size=40)
    (wave,) = go_through(arm, lambda setting: Score("completed", [0.5]))
    values = {setting["model.x"] for setting in wave}
    assert all(expected._contains(expected.to_internal_repr(value)) for value in values)
    if isinstance(expected, CategoricalDistribution):
        assert values == set(parameter.choices)
    elif parameter.step or parameter.kind == "int":
        assert len(values) > 3 and all((float(value) - parameter.low) % (parameter.step or 1) == 0 for value in values)
    else:
        assert len(values) == 40


def test_the_journal_opens_in_optuna(tmp_path: Path) -> None:
    path = tmp_path / "studies/study/optuna.log"
    storage = open_storage(path)
    scores = iter([Score("completed", [0.1, 0.3]), Score("pruned", [0.05]), Score("diverged", []), Score("failed", [])])
    arms = [search_of(name, storage=storage, trials=2, wave_size=2) for name in ("R/a", "R/b")]
    proposed = [go_through(arm, lambda setting: next(scores))[0] for arm in arms]
    storage.flush()

    opened = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    assert sorted(optuna.get_all_study_names(opened)) == ["R/a", "R/b"]
    for name, settings, states, statuses in (
        ("R/a", proposed[0], [TrialState.COMPLETE, TrialState.PRUNED], ["completed", "pruned"]),
        ("R/b", proposed[1], [TrialState.PRUNED, TrialState.FAIL], ["diverged", "failed"]),
    ):
        study = optuna.load_study(study_name=name, storage=opened)
        assert study.direction == optuna.study.StudyDirection.MAXIMIZE
        assert [trial.state for trial in study.trials] == states
        assert [trial.user_attrs for trial in study.trials] == [
            {"run": f"key{index}", "status": status} for index, status in enumerate(statuses)
        ]
        assert [trial.params["optim.lr"] for trial in study.trials] == [setting["optim.lr"] for setting in settings]
        assert set(study.trials[0].distributions) == {parameter.name for parameter in SPACE}
    assert optuna.load_study(study_name="R/a", storage=opened).best_value == 0.3


def test_an_earlier_journal_gives_way_even_if_its_writer_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "optuna.log"

    def begin() -> None:
        storage = open_storage(path)
        search_of("R/a", storage=storage).next_wave()
        storage.flush()

    begin()
    path.write_text(path.read_text() + '{"torn')
    path.with_name("optuna.log.lock").write_text("")
    begin()
    opened = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    assert len(optuna.load_study(study_name="R/a", storage=opened).trials) == 4
