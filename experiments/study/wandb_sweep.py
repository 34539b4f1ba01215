"""The same search as a W&B sweep: what `wandb sweep FILE` takes, for those who tune with W&B's agents."""

from collections.abc import Sequence
from typing import Any

from experiments.study.search_space import Parameter
from ledger.errors import UserError


def wandb_sweep(
    parameters: Sequence[Parameter], *, variant: str, project: str, method: str, arguments: Sequence[str]
) -> dict[str, Any]:
    """A sweep of one variant's hyper-parameters.

    method: how W&B chooses: bayes, grid or random.
    arguments: of `run`, besides the variant, the stage and what is searched.
    Raises UserError if there is nothing to search.
    """
    if not parameters:
        raise UserError(f"wandb-sweep: {variant!r} has no parameters to search")
    run = ["run", "--variant", variant, "--stage", "trial", *arguments]
    return {
        "name": variant,
        "project": project,
        "program": "experiments",
        "method": method,
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "parameters": {parameter.name: wandb_form(parameter) for parameter in parameters},
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
