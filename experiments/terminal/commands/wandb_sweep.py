"""`wandb-sweep`: print the search of one variant as a W&B sweep, for those who tune with W&B's agents."""

import yaml
from jsonargparse import Namespace

from experiments.terminal.commands.options import read_study
from ledger.errors import UserError, nearest


def main(options: Namespace) -> int:
    study, variant = read_study(options), options.variant
    if variant not in study.variants:
        raise UserError(f"variant: {variant!r} is not in {options.sweep}; {nearest(variant, study.variants)}")
    parameters = study.search.parameters(variant)
    if not parameters:
        raise UserError(f"wandb-sweep: {variant!r} has no parameters to search")
    given = {"sweep": options.sweep, "budget": study.budget, "runs": options.runs}
    given |= {name: options[name] for name in ("data", "label", "group") if options[name]}
    arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    arguments += [text for each in options.set or () for text in ("--set", each)]
    run = ["run", "--variant", variant, "--stage", "trial", *arguments]
    sweep_file = {
        "name": variant,
        "project": study.wandb.project,
        "program": "experiments",
        "method": "random" if study.search.sampler == "random" else "bayes",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "parameters": {parameter.name: parameter.wandb_form() for parameter in parameters},
        "command": ["${env}", "${interpreter}", "-m", "${program}", *run, "${args}"],
    }
    print(yaml.safe_dump(sweep_file, sort_keys=False), end="")
    return 0
