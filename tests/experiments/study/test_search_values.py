"""Values that trials try: in their bounds, even, the nearest to what was asked for."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest, uniform

from experiments.study.search import distribution, independent_draws, spread_draws
from experiments.study.search_space import Parameter


@given(st.sampled_from(["float", "int", "log"]), st.floats(0, 1, exclude_max=True))
def test_values_of_shares_are_allowed(kind: str, u: float) -> None:
    parameter = {
        "float": Parameter("optim.lr", "float", 0.2, 0.7),
        "int": Parameter("model.size", "int", 1, 9, step=2),
        "log": Parameter("optim.lr", "float", 1e-4, 0.5, log=True),
    }[kind]
    value = float(parameter.at(u))
    assert parameter.low <= value <= parameter.high
    assert kind != "int" or value in (1, 3, 5, 7, 9)


@pytest.mark.parametrize("draws", [independent_draws, spread_draws])
def test_draws_are_even_over_their_range(draws: Callable[[int, str], Iterator[float]]) -> None:
    found = list(islice(draws(0, "optim.lr"), 400))
    assert kstest(found, uniform.cdf).pvalue > 1e-3
    choices = Parameter("optim.lr", "categorical", choices=(1.0, 2.0, 4.0))
    assert {choices.at(u) for u in found[:50]} == {1.0, 2.0, 4.0}
    rate = Parameter("optim.lr", "float", 1e-4, 1e-2, log=True)
    assert kstest([math.log10(float(rate.at(u))) for u in found], uniform(-4, 2).cdf).pvalue > 1e-3


@given(st.integers(0, 2**31), st.integers(0, 6))
def test_spread_draws_have_one_in_each_part_of_the_range(seed: int, power: int) -> None:
    num = 2**power
    found = list(islice(spread_draws(seed, "optim.lr"), num))
    assert sorted(int(num * u) for u in found) == list(range(num))
    assert found == list(islice(spread_draws(seed, "optim.lr"), num + 3))[:num]


def test_spread_draws_of_two_parameters_have_nothing_to_do_with_each_other() -> None:
    """Over many seeds, each pair of quarters of the two ranges is met as often as any other by the third trial."""
    pairs = Counter[tuple[int, ...]]()
    for seed in range(4000):
        third = [next(islice(spread_draws(seed, name), 2, None)) for name in ("optim.lr", "optim.weight_decay")]
        pairs[tuple(int(4 * u) for u in third)] += 1
    assert len(pairs) == 16 and chisquare(list(pairs.values())).pvalue > 1e-3


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    kind = draw(st.sampled_from(["float", "stepped float", "int", "categorical"]))
    if kind == "categorical":
        choices = draw(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5, unique=True))
        return Parameter("model.x", "categorical", choices=tuple(choices))
    if kind == "float":
        low, high = sorted(draw(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=2, unique=True)))
        return Parameter("model.x", "float", low, high, log=draw(st.booleans()))
    first, num_steps = draw(st.integers(-20, 20)), draw(st.integers(1, 20))
    if kind == "int":
        whole = draw(st.integers(1, 5))
        return Parameter("model.x", "int", first * whole, (first + num_steps) * whole, step=whole)
    # Bounds are multiples of the step, as sweep files must have them, but floats are only nearly so.
    step = draw(st.sampled_from([0.1, 0.3, 0.25, 0.7, 1e-3, 3.0]))
    return Parameter("model.x", "float", round(first * step, 6), round((first + num_steps) * step, 6), step=step)


def allowed(parameter: Parameter) -> list[float]:
    """Values that the parameter may take: all of them, or its bounds where there is no step."""
    if parameter.kind == "categorical":
        return [float(choice) for choice in parameter.choices]
    if parameter.step is None:
        return [parameter.low, parameter.high]
    num_steps = round((parameter.high - parameter.low) / parameter.step)
    return [parameter.low + index * parameter.step for index in range(num_steps + 1)]


@given(parameter=parameters(), value=st.floats(-1e7, 1e7) | st.floats(-5, 5))
def test_nearest_allowed_is_allowed_and_nearest(parameter: Parameter, value: float) -> None:
    nearest, space = float(parameter.nearest(value)), distribution(parameter)
    assert space._contains(space.to_internal_repr(nearest))
    inside = parameter.kind != "categorical" and parameter.step is None and parameter.low <= value <= parameter.high
    smallest = 0 if inside else min(abs(each - value) for each in allowed(parameter))
    assert abs(nearest - value) <= smallest + 1e-9 * max(1, abs(value))
    assert parameter.nearest(nearest) == pytest.approx(nearest)


@given(parameter=parameters())
def test_bounds_and_choices_stay_as_they_are(parameter: Parameter) -> None:
    assume(parameter.step is None)
    assert all(parameter.nearest(value) == value for value in allowed(parameter))


@given(st.sampled_from(["zeros", "border", "elsewhere", 3.0, True]))
def test_a_word_is_one_of_the_choices_or_the_first_is_taken(value: str | float) -> None:
    parameter = Parameter("model.padding", "categorical", choices=("border", "zeros"))
    assert parameter.nearest(value) == (value if value in parameter.choices else "border")
