"""`wandb-sweep`: print a W&B sweep file."""

import yaml
from jsonargparse import Namespace

from experiments.study.wandb_sweep import wandb_sweep as wandb_sweep_file
from experiments.terminal.commands.options import read_study
from ledger.errors import UserError, nearest


def main(options: Namespace) -> int:
    """Print a W&B sweep file."""
    study = read_study(options)
    known = [entry.variant for entry in study.variants]
    if options.variant not in known:
        raise UserError(f"variant: {options.variant!r} is not in {options.sweep}; {nearest(options.variant, known)}")
    arguments = ["--sweep", str(options.sweep), "--budget", study.budget, "--runs", str(options.runs)]
    arguments += ["--data", str(options.data)] if options.data else []
    arguments += ["--label", options.label] if options.label else []
    sweep_file = wandb_sweep_file(
        study.search.parameters(options.variant),
        variant=options.variant,
        project=study.wandb.project,
        method="random" if study.search.sampler == "random" else "bayes",
        arguments=arguments,
    )
    print(yaml.safe_dump(sweep_file, sort_keys=False), end="")
    return 0
