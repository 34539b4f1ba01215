"""The search space of a sweep file: W&B's parameter grammar, as far as Optuna can honour it."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from experiments.study.sweep_file import Section, shown, unquoted
from ledger.config import Optim
from ledger.errors import nearest
from ledger.options import Value, fields

_NUMERIC = ("uniform", "q_uniform", "int_uniform", "log_uniform_values", "q_log_uniform_values")
_BOUNDS = (-1e12, 1e12)  # of any value: differences and logarithms of them stay finite

_OF_VALUES = "log_uniform_values, with the values themselves as min and max rather than their exponents,"
_OF_INVERSE = "log_uniform_values, for one minus or one over the value,"
_INSTEAD = {
    **dict.fromkeys(("normal", "beta"), "uniform"),
    **dict.fromkeys(("q_normal", "q_beta"), "q_uniform"),
    **dict.fromkeys(("log_normal", "q_log_normal"), "log_uniform_values"),
    **dict.fromkeys(("log_uniform", "q_log_uniform"), _OF_VALUES),
    **dict.fromkeys(("inv_log_uniform", "inv_log_uniform_values"), _OF_INVERSE),
    "categorical_w_probabilities": "values alone",
}
"""W&B's distributions that Optuna does not have, and what comes nearest."""


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter and the values it may take.

    Args:
        name: dotted: optim.NAME, model.NAME or policy.NAME; policy.POLICY.NAME for a variant with several policies.
        kind: a float or an int from `low` to `high`, both included; or one of `choices`.
        low, high: the bounds; 0 where there are choices. Ints where kind is int.
        log: whether values are spread evenly over the logarithm.
        step: distance between neighbouring values; None where a float may take any. 1 for an int unless said otherwise.
        choices: the values to choose from; a single one is a constant. Empty where there are bounds.
    """

    name: str
    kind: Literal["float", "int", "categorical"]
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()

    @property
    def num_values(self) -> float:
        """How many values it may take; infinity where it may take any between its bounds."""
        if self.choices:
            return len(self.choices)
        return math.floor((self.high - self.low) / self.step + 1e-9) + 1 if self.step else math.inf

    @property
    def ends(self) -> tuple[Value, ...]:
        """All choices, or both bounds."""
        return self.choices or (self.low, self.high)

    def nearest(self, value: Value) -> Value:
        """The value of its range that is closest to this one."""
        if self.choices:
            return value if value in self.choices else min(self.choices, key=lambda each: _distance(each, value))
        value = min(max(float(value), self.low), self.high)
        if self.step:
            steps = round((value - self.low) / self.step)
            value = min(self.low + steps * self.step, self.high)  # 0.3 + 6 * 0.1 is above 0.9
        return round(value) if self.kind == "int" else value

    def at(self, share: float) -> Value:
        """The value of its range at this share of it."""
        if self.choices:
            return self.choices[int(share * len(self.choices))]
        if self.log:
            return self.nearest(math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low))))
        return self.nearest(self.low + share * (self.high - self.low))

    def wandb_form(self) -> dict[str, Any]:
        """In W&B's grammar, as study.json and a W&B sweep have it."""
        if len(self.choices) == 1:
            return {"distribution": "constant", "value": self.choices[0]}
        if self.choices:
            return {"distribution": "categorical", "values": list(self.choices)}
        bounds = {"min": self.low, "max": self.high}
        if self.kind == "int" and not self.log and self.step in (None, 1):
            return {"distribution": "int_uniform", **bounds}
        distribution = "log_uniform_values" if self.log else "uniform"
        stepped = {"q": self.step} if self.step is not None else {}
        return {"distribution": f"q_{distribution}" if stepped else distribution, **bounds, **stepped}


def _distance(choice: Value, value: Value) -> float:
    """Between numbers; texts are either the same or not."""
    return math.inf if isinstance(choice, str) or isinstance(value, str) else abs(choice - value)


def read_space(space: Section) -> tuple[Parameter, ...]:
    """The parameters of a section in the order they are written, each a dotted name with W&B's keys under it."""
    return tuple(_parameter(space, name) for name in space.values)


def _parameter(space: Section, name: str) -> Parameter:
    part, *names = name.split(".")
    # Of several policies that a variant has: policy.POLICY.NAME.
    is_known = part in ("optim", "model", "policy") and 1 <= len(names) <= (2 if part == "policy" else 1)
    if not (is_known and all(map(str.isidentifier, names))):
        raise space.error(name, "is not named optim.NAME, model.NAME or policy.NAME")
    optim = [f"optim.{known}" for known in fields(Optim)]
    if part == "optim" and name not in optim:
        raise space.error(name, f"unknown parameter; {nearest(name, optim)}")
    section = space.section(name)
    if "probabilities" in section.values:
        raise section.error("probabilities", "Optuna draws values with equal chances; write values alone")
    parameter = _categorical(section, name) or _numeric(section, name)
    for value in parameter.ends if part == "optim" else ():
        if isinstance(value, str | bool):
            raise space.error(name, f"{shown(value)} is not a number")
        if value < 0:
            raise space.error(name, f"{value} is negative")
    return parameter


def _categorical(section: Section, name: str) -> Parameter | None:
    """The parameter that `value` or `values` describe; None where neither is there."""
    key = "value" if "value" in section.values else "values"
    if key not in section.values:
        return None
    _distribution(section, ("constant" if key == "value" else "categorical",))
    section.only(("distribution", key))
    items = section.items(key) if key == "values" else section.part((key,))
    choices = tuple(_choice(items, each) for each in items.values)
    if len(set(choices)) < len(choices):
        raise section.error("values", "holds the same value twice")
    return Parameter(name, "categorical", choices=choices)


def _choice(section: Section, key: Any) -> Value:
    """A number, true or false, or a word, such as the name of a padding."""
    value = section.values[key]
    if isinstance(value, bool):
        return section.boolean(key)
    if isinstance(value, str):
        if hint := unquoted(value):
            raise section.error(key, f"{shown(value)} is a text{hint}")
        return section.text(key, pattern=r"[A-Za-z][A-Za-z0-9_]*", what="a number, true, false or a word")
    return section.number(key, *_BOUNDS)


def _distribution(section: Section, fitting: tuple[str, ...]) -> None:
    """Refuse a distribution that is not among `fitting`."""
    name = section.text("distribution", fitting[0])
    if name in _INSTEAD:
        raise section.error("distribution", f"Optuna has no {name}; write {_INSTEAD[name]} instead")
    if name in (*_NUMERIC, "categorical", "constant") and name not in fitting:
        needed = {"constant": "value", "categorical": "values"}.get(name, "min and max")
        raise section.error("distribution", f"{name} needs {needed}")
    section.choice("distribution", fitting, fitting[0])


def _numeric(section: Section, name: str) -> Parameter:
    _distribution(section, _NUMERIC)
    section.only(("distribution", "value", "values", "min", "max", "q"))
    if "min" not in section.values or "max" not in section.values:
        raise section.error("", "needs value, values, or min and max")
    low, high = section.number("min", *_BOUNDS), section.number("max", *_BOUNDS)
    if low >= high:
        raise section.error("min", f"{low} is not below max {high}; for a fixed value write value")
    whole = isinstance(low, int) and isinstance(high, int)
    distribution = section.text("distribution", "int_uniform" if whole else "uniform")
    stepped, log = distribution.startswith("q_"), "log" in distribution
    if not stepped and "q" in section.values:
        raise section.error("q", f"does not go with {distribution}; write q_uniform")
    step = section.number("q", default=1) if stepped else None
    if log and low <= 0:
        raise section.error("min", f"{low} is not above 0, which {distribution} needs")
    if distribution == "int_uniform" and not whole:
        raise section.error("distribution", "int_uniform needs whole numbers as min and max")
    if distribution == "q_log_uniform_values" and not (whole and step == 1):
        raise section.error("distribution", "Optuna has it for whole numbers and q 1 only; write log_uniform_values")
    if step is not None and step <= 0:
        raise section.error("q", f"{step} is not above 0")
    if step is not None and any(Fraction(str(bound)) % Fraction(str(step)) for bound in (low, high)):
        # W&B rounds to multiples of q, Optuna counts steps from min: only then do both mean the same values
        raise section.error("q", f"min {low} and max {high} are not both multiples of {step}")
    if distribution == "int_uniform" or (stepped and whole and isinstance(step, int)):
        return Parameter(name, "int", low, high, log, step or 1)
    return Parameter(name, "float", float(low), float(high), log, None if step is None else float(step))
