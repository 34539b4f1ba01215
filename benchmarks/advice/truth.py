"""What is true of a folder: the probe's four variants on all of its images, trained until little changes."""

import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from analysis.findings import Findings
from experiments.images.tasks.cache import cache_folder
from experiments.probe.sizes import with_rungs, with_sizes
from experiments.probe.study import compared, load_probe
from experiments.study.plan import make_plan
from experiments.sweep.executors import Workers
from experiments.sweep.executors.local import STALL_S, ThisMachine
from experiments.terminal.commands.sweep import carry_out_study

IMAGES_SHOWN, MAX_EPOCHS = 150_000, 200
"""To each network in its training, at least; and epochs, at most: some four times as long as a probe of ten minutes."""
NUM_SEEDS = 5


def truth(folder: Path, policy: str, runs: Path, num_workers: int) -> Findings:
    """The findings of the study, whose missing runs are made. Every variant has its default setting."""
    study, name = compared(load_probe(folder, 10, "cpu"), policy), re.sub("[:=+]", "-", f"truth-{policy}")
    search = replace(study.search, trials=1, wave_size=1)
    study = replace(study, name=name, search=search, final_seeds=NUM_SEEDS)
    plan = make_plan(study, label="", cache=cache_folder(), say=lambda line: None)
    num_images = plan.protocol.train_images
    epochs = min(MAX_EPOCHS, -(-IMAGES_SHOWN // num_images))
    plan = with_rungs(with_sizes(plan, num_images, epochs), ())
    return carry_out_study(plan, runs, None, Console(), ThisMachine(), Workers(num_workers, STALL_S))
