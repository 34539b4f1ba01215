"""The search space in W&B's parameter grammar: read as W&B reads it, or refused with what to write instead."""

import math
from typing import Any

import pytest
from wandb.sdk.sweeps.scheduler.optuna import sweep_parameter_to_distribution

from experiments.study.search import distribution
from experiments.study.search_space import Parameter, read_space
from experiments.study.sweep_file import Section
from ledger.errors import UserError


def section(name: str, written: Any) -> Section:
    return Section("sweep.yaml", "search.space", {name: written})


GRAMMAR: dict[str, tuple[dict[str, Any], Parameter]] = {
    "value": ({"value": 3}, Parameter("model.x", "categorical", choices=(3,))),
    "constant": ({"distribution": "constant", "value": 0.5}, Parameter("model.x", "categorical", choices=(0.5,))),
    "values": ({"values": [1, 2.5]}, Parameter("model.x", "categorical", choices=(1, 2.5))),
    "categorical": ({"distribution": "categorical", "values": [1]}, Parameter("model.x", "categorical", choices=(1,))),
    "whole bounds": ({"min": 1, "max": 9}, Parameter("model.x", "int", 1, 9, step=1)),
    "bounds": ({"min": 1, "max": 9.5}, Parameter("model.x", "float", 1.0, 9.5)),
    "uniform": ({"distribution": "uniform", "min": 1, "max": 9}, Parameter("model.x", "float", 1.0, 9.0)),
    "int_uniform": ({"distribution": "int_uniform", "min": 1, "max": 9}, Parameter("model.x", "int", 1, 9, step=1)),
    "q_uniform": ({"distribution": "q_uniform", "min": 2, "max": 8, "q": 2}, Parameter("model.x", "int", 2, 8, step=2)),
    "q_uniform in tenths": (
        {"distribution": "q_uniform", "min": 0.3, "max": 0.9, "q": 0.1},
        Parameter("model.x", "float", 0.3, 0.9, step=0.1),
    ),
    "log_uniform_values": (
        {"distribution": "log_uniform_values", "min": 1e-3, "max": 1},
        Parameter("model.x", "float", 1e-3, 1.0, log=True),
    ),
    "q_log_uniform_values": (
        {"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 1},
        Parameter("model.x", "int", 1, 64, log=True, step=1),
    ),
}


@pytest.mark.parametrize("case", GRAMMAR)
def test_wandbs_grammar_is_read_as_wandb_reads_it(case: str) -> None:
    written, expected = GRAMMAR[case]
    (parameter,) = read_space(section("model.x", written))
    assert parameter == expected
    assert [type(getattr(parameter, name)) for name in ("low", "step")] == [
        type(getattr(expected, name)) for name in ("low", "step")
    ]
    assert distribution(parameter) == sweep_parameter_to_distribution(written)


SPACE: dict[str, tuple[str, Any, str]] = {
    "prefix": ("train.lr", {"value": 1}, ": is not named optim.NAME, model.NAME or policy.NAME"),
    "no prefix": ("lr", {"value": 1}, ": is not named optim.NAME, model.NAME or policy.NAME"),
    "too many dots": ("model.a.b", {"value": 1}, ": is not named optim.NAME, model.NAME or policy.NAME"),
    "optim": ("optim.lrr", {"value": 1}, ": unknown parameter; did you mean 'optim.lr'?"),
    "negative rate": ("optim.lr", {"min": -1.0, "max": 1}, ": -1.0 is negative"),
    "nothing": ("model.x", {}, ": needs value, values, or min and max"),
    "no max": ("model.x", {"min": 1}, ": needs value, values, or min and max"),
    "key": ("model.x", {"minimum": 1, "max": 2}, ".minimum: unknown key; did you mean 'min'?"),
    "value and max": ("model.x", {"value": 1, "max": 2}, ".max: unknown key; known: distribution, value"),
    "a plain number": ("model.x", 3, ": 3 is not a set of keys with values"),
    "bounds turned": ("model.x", {"min": 2, "max": 1}, ".min: 2 is not below max 1; for a fixed value write value"),
    "bound a text": ("model.x", {"min": "a", "max": 1}, ".min: 'a' is not a number"),
    "bound infinite": ("model.x", {"min": 1.0, "max": float("inf")}, ".max: inf is not a number"),
    "log of 0": (
        "model.x",
        {"distribution": "log_uniform_values", "min": 0, "max": 1},
        ".min: 0 is not above 0, which log_uniform_values needs",
    ),
    "values empty": ("model.x", {"values": []}, ".values: [] is not a list of at least one"),
    "values twice": ("model.x", {"values": [1, 1.0]}, ".values: holds the same value twice"),
    "values true and 1": ("model.x", {"values": [True, 1]}, ".values: holds the same value twice"),
    "values no word": ("model.x", {"values": [1, "a b"]}, ".values[1]: 'a b' is not a number, true, false or a word"),
    "values a list": ("model.x", {"values": [[1]]}, ".values[0]: [1] is not a number"),
    "rate a word": ("optim.lr", {"values": [0.1, "high"]}, ": 'high' is not a number"),
    "rate true": ("optim.lr", {"value": True}, ": True is not a number"),
    "probabilities": (
        "model.x",
        {"values": [1, 2], "probabilities": [0.1, 0.9]},
        ".probabilities: Optuna draws values with equal chances; write values alone",
    ),
    "distribution": (
        "model.x",
        {"distribution": "log_uniform_value", "min": 1, "max": 2},
        ".distribution: 'log_uniform_value' is unknown; did you mean 'log_uniform_values'?",
    ),
    "constant without value": (
        "model.x",
        {"distribution": "constant", "min": 1, "max": 2},
        ".distribution: constant needs value",
    ),
    "categorical with value": (
        "model.x",
        {"distribution": "categorical", "value": 1},
        ".distribution: categorical needs values",
    ),
    "uniform with values": (
        "model.x",
        {"distribution": "uniform", "values": [1]},
        ".distribution: uniform needs min and max",
    ),
    "int_uniform in halves": (
        "model.x",
        {"distribution": "int_uniform", "min": 0.5, "max": 2},
        ".distribution: int_uniform needs whole numbers as min and max",
    ),
    "q without q_": ("model.x", {"min": 1, "max": 3, "q": 1}, ".q: does not go with int_uniform; write q_uniform"),
    "q 0": ("model.x", {"distribution": "q_uniform", "min": 0, "max": 3, "q": 0}, ".q: 0 is not above 0"),
    "q between": (
        "model.x",
        {"distribution": "q_uniform", "min": 1, "max": 4, "q": 2},
        ".q: min 1 and max 4 are not both multiples of 2",
    ),
    "log in steps": (
        "model.x",
        {"distribution": "q_log_uniform_values", "min": 2, "max": 8, "q": 2},
        ".distribution: Optuna has it for whole numbers and q 1 only; write log_uniform_values",
    ),
    **{
        name: ("model.x", {"distribution": name, "min": 1, "max": 2}, f".distribution: Optuna has no {name}; write ")
        for name in (
            "normal",
            "log_normal",
            "q_normal",
            "log_uniform",
            "q_log_uniform",
            "inv_log_uniform_values",
            "beta",
        )
    },
    "normal as W&B writes it": (
        "model.x",
        {"distribution": "normal", "mu": 0, "sigma": 1},
        ".distribution: Optuna has no normal; write uniform instead",
    ),
}


@pytest.mark.parametrize("case", SPACE)
def test_a_parameter_that_cannot_be_searched_is_refused(case: str) -> None:
    name, written, expected = SPACE[case]
    with pytest.raises(UserError) as caught:
        read_space(section(name, written))
    assert str(caught.value).startswith(f"sweep.yaml: search.space.{name}{expected}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("written", "num"),
    [
        ({"value": 0.5}, 1),
        ({"values": [1, 2]}, 2),
        ({"min": 1, "max": 9}, 9),
        ({"distribution": "q_uniform", "min": 0.3, "max": 0.9, "q": 0.1}, 7),
        ({"distribution": "q_uniform", "min": 2, "max": 8, "q": 2}, 4),
        ({"min": 1, "max": 9.5}, math.inf),
    ],
)
def test_the_values_of_a_parameter_are_counted(written: dict[str, Any], num: float) -> None:
    (parameter,) = read_space(section("model.x", written))
    assert parameter.num_values == num
