"""The same search as a W&B sweep: what `wandb sweep FILE` takes, for those who tune with W&B's agents."""

from collections.abc import Sequence
from typing import Any

from experiments.study.search_space import Parameter
from ledger.errors import UserError, nearest

METHODS = ("bayes", "grid", "random")

_FINITE = ("constant", "categorical", "categorical_w_probabilities", "int_uniform", "q_uniform")


def wandb_sweep(
    space: dict[str, dict[str, Any]],
    *,
    variant: str,
    project: str,
    method: str,
    metric: str,
    program: str,
    arguments: Sequence[str] = (),
) -> dict[str, Any]:
    """A sweep of one variant's hyper-parameters, with nothing left for W&B to infer.

    space: by dotted name, parameters in W&B's grammar; `{"distribution": "log_uniform_values", "min": 0.01, "max": 1}`.
    method: how W&B chooses: bayes, grid or random.
    metric: a history column of the tracked runs, `val/accuracy`; a loss is minimised, anything else maximised.
    program: the module that an agent starts as `python -m PROGRAM run`.
    arguments: of `run`, besides the variant, the stage and what is searched.
    Raises UserError for an unknown method, a parameter without a distribution, or a grid without end.
    """
    if method not in METHODS:
        raise UserError(f"wandb-sweep: method: {method!r} is none of W&B's; {nearest(method, METHODS)}")
    if not space:
        raise UserError(f"wandb-sweep: {variant!r} has no parameters to search")
    parameters = {name: _explicit(name, spec) for name, spec in space.items()}
    for name, spec in parameters.items():
        if method == "grid" and spec["distribution"] not in _FINITE:
            raise UserError(
                f"wandb-sweep: method: 'grid' cannot try all of {name}, a {spec['distribution']}; try random"
            )
    run = ["run", "--variant", variant, "--stage", "trial", *arguments]
    return {
        "name": variant,
        "project": project,
        "program": program,
        "method": method,
        "metric": {"name": metric, "goal": "minimize" if metric.endswith("loss") else "maximize"},
        "parameters": parameters,
        "command": ["${env}", "${interpreter}", "-m", "${program}", *run, "${args}"],
    }


def wandb_form(parameter: Parameter) -> dict[str, Any]:
    """A parameter of a study in W&B's grammar."""
    if parameter.kind == "categorical":
        if len(parameter.choices) == 1:
            return {"distribution": "constant", "value": parameter.choices[0]}
        return {"distribution": "categorical", "values": list(parameter.choices)}
    bounds = {"min": parameter.low, "max": parameter.high}
    if parameter.kind == "int" and not parameter.log and parameter.step in (None, 1):
        return {"distribution": "int_uniform", **bounds}
    distribution = "log_uniform_values" if parameter.log else "uniform"
    stepped = {"q": parameter.step} if parameter.step is not None else {}
    return {"distribution": f"q_{distribution}" if stepped else distribution, **bounds, **stepped}


def _explicit(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The parameter with the distribution that its fields imply. Bounds of a uniform one are made floats: W&B takes
    neither one of each kind, nor integers where floats are meant."""
    if "probabilities" in spec:
        return {**spec, "distribution": "categorical_w_probabilities"}
    if "distribution" in spec:
        return dict(spec)
    if "value" in spec:
        return {"distribution": "constant", **spec}
    if "values" in spec:
        return {"distribution": "categorical", **spec}
    if "min" in spec and "max" in spec:
        bounds = (spec["min"], spec["max"])
        if all(isinstance(bound, int) for bound in bounds):
            return {"distribution": "int_uniform", **spec}
        return {**spec, "distribution": "uniform", "min": float(bounds[0]), "max": float(bounds[1])}
    raise UserError(f"wandb-sweep: {name}: {spec} says neither value, values, min and max, nor a distribution")
