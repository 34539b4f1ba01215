"""How much each hyper-parameter decided, from a study's ledger: as Optuna has it, and only where that can be said."""

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.study.search import NUM_IMPORTANCE_TRIALS, distribution, importances
from experiments.study.search_space import Parameter, read_space
from experiments.study.sweep_file import Section
from experiments.terminal.commands.options import find_study
from ledger.ledger import Ledger
from tests.support.synthetic_ledger import STUDY, edit_json, key_of, write_run, write_study

LR = Parameter("optim.lr", "float", 0.02, 0.5, log=True)
STEPS = Parameter("model.steps", "int", 1, 4, step=1)
PADDING = Parameter("model.padding", "categorical", choices=("zeros", "border"))
FIXED = Parameter("optim.weight_decay", "categorical", choices=(0.0005,))
SPACE = (LR, STEPS, PADDING, FIXED)


def settings(num: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    return [
        {
            "optim.lr": 0.02 * 25 ** draw.random(),
            "model.steps": draw.randint(1, 4),
            "model.padding": draw.choice(["zeros", "border"]),
            "optim.weight_decay": 0.0005,
        }
        for _ in range(num)
    ]


def accuracy(setting: dict[str, Any]) -> float:
    """The padding decides nearly everything."""
    return 0.5 + 0.2 * (setting["model.padding"] == "border") + 0.001 * float(setting["optim.lr"])


def test_the_shares_are_those_of_optunas_own_study() -> None:
    tried = settings(40)
    study = optuna.create_study(direction="maximize")
    for setting in tried:
        study.enqueue_trial({name: setting[name] for name in ("optim.lr", "model.steps", "model.padding")})

    def suggest(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("optim.lr", 0.02, 0.5, log=True)
        trial.suggest_int("model.steps", 1, 4)
        padding = trial.suggest_categorical("model.padding", ["zeros", "border"])
        return accuracy({"optim.lr": lr, "model.padding": padding})

    study.optimize(suggest, n_trials=40)
    expected = optuna.importance.get_param_importances(study)
    found = importances(SPACE, tried, [accuracy(setting) for setting in tried])
    assert found == pytest.approx(expected)
    assert list(found) == ["optim.lr", "model.steps", "model.padding"]  # a constant decides nothing
    assert sum(found.values()) == pytest.approx(1)


def test_nothing_is_said_where_there_is_nothing_to_say() -> None:
    tried = settings(NUM_IMPORTANCE_TRIALS)
    scores = [accuracy(setting) for setting in tried]
    assert importances(SPACE, tried, scores)
    assert importances(SPACE, tried[1:], scores[1:]) == {}
    assert importances((LR, FIXED), tried, scores) == {}
    assert importances(SPACE, tried, [0.5] * len(tried)) == {}


def write_arm_of_trials(ledger: Path, variant: str, num: int, **changes: Any) -> dict[str, Any]:
    """An arm whose trials' rates and paddings differ, the last three of them failed, pruned and missing."""
    keys = [key_of(variant, index) for index in range(num + 3)]
    for key, setting in zip(keys, settings(num), strict=False):
        write_run(
            ledger, key, variant=variant, stage="trial", seed=0, accuracy=accuracy(setting), lr=setting["optim.lr"],
            model={"padding": setting["model.padding"], "steps": setting["model.steps"]},
        )  # fmt: skip
    write_run(ledger, keys[-3], variant=variant, stage="trial", seed=0, status="failed", accuracy=None)
    write_run(ledger, keys[-2], variant=variant, stage="trial", seed=0, status="pruned", accuracy=0.9)
    space = {each.name: each.wandb_form() for each in SPACE}
    arm = {"pose": "upright", "variant": variant, "baseline": variant, "winner": keys[0], "finals": []}
    return arm | {"trials": keys, "space": space} | changes


def test_a_ledgers_importances_are_those_of_its_completed_trials(tmp_path: Path) -> None:
    arms = [
        write_arm_of_trials(tmp_path, "stn_affine", 40),
        write_arm_of_trials(tmp_path, "few", NUM_IMPORTANCE_TRIALS - 1),
        write_arm_of_trials(tmp_path, "untuned", 25, space={}),
    ]
    write_study(tmp_path, arms)
    found = find_study(Ledger(tmp_path, read_only=True), STUDY).importances
    assert found is not None
    assert found.evaluator.startswith("PED-ANOVA")
    tried = settings(40)
    expected = importances(SPACE, tried, [accuracy(setting) + 0.01 for setting in tried])
    assert found.by_arm == {("upright", "stn_affine"): pytest.approx(expected)}


def test_an_older_ledger_has_no_importances(tmp_path: Path) -> None:
    arm = write_arm_of_trials(tmp_path, "stn_affine", 25)
    del arm["space"]
    edit_json(write_study(tmp_path, [arm]), format=2)
    assert find_study(Ledger(tmp_path, read_only=True), STUDY).importances is None


NUMBERS = st.floats(1e-6, 1e6)
PARAMETERS = st.one_of(
    st.builds(
        lambda low, factor, log: Parameter("model.x", "float", low, low * factor, log=log),
        NUMBERS, st.floats(1.5, 100), st.booleans(),
    ),
    st.builds(
        lambda low, span, step: Parameter("model.x", "int", low * step, (low + span) * step, step=step),
        st.integers(-50, 50), st.integers(1, 50), st.integers(1, 9),
    ),
    st.builds(
        lambda low, span: Parameter("model.x", "int", low, low + span, log=True, step=1),
        st.integers(1, 50), st.integers(1, 50),
    ),
    st.builds(
        lambda choices: Parameter("model.x", "categorical", choices=tuple(choices)),
        st.one_of(
            st.lists(st.sampled_from(["zeros", "border", "reflection"]), min_size=1, unique=True),
            st.lists(st.integers(-5, 5), min_size=1, max_size=4, unique=True),
            st.lists(NUMBERS, min_size=1, max_size=4, unique=True),
            st.just([True, False]),
        ),
    ),
)  # fmt: skip


@given(PARAMETERS)
def test_study_jsons_space_is_the_one_that_was_searched(parameter: Parameter) -> None:
    (read,) = read_space(Section("study.json", "space", {"model.x": parameter.wandb_form()}))
    assert read == parameter
    assert distribution(read) == distribution(parameter)
