"""The W&B sweep file, held against what the installed W&B makes of it."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
from wandb.sdk.launch.sweeps.utils import load_sweep_config
from wandb.sdk.sweeps.scheduler.optuna import search_space_from_sweep_config
from wandb.wandb_agent import Agent

from experiments.study.search_space import Parameter
from experiments.terminal.cli import main
from tests.support.tiny_study import write_sweep

SPACE = (
    Parameter("optim.lr", "float", 0.01, 0.5, log=True),
    Parameter("optim.weight_decay", "float", 1e-5, 1e-2, log=True),
    Parameter("model.loc_lr_factor", "float", 0.0, 1.0),
    Parameter("model.width", "int", 8, 64, step=1),
    Parameter("policy.max_deg", "int", 5, 45, step=5),
    Parameter("policy.kind", "categorical", choices=("a", "b")),
    Parameter("model.heads", "categorical", choices=(7,)),
)
DISTRIBUTIONS: dict[str, optuna.distributions.BaseDistribution] = {
    "optim.lr": FloatDistribution(0.01, 0.5, log=True),
    "optim.weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
    "model.loc_lr_factor": FloatDistribution(0.0, 1.0),
    "model.width": IntDistribution(8, 64),
    "policy.max_deg": IntDistribution(5, 45, step=5),
    "policy.kind": CategoricalDistribution(["a", "b"]),
    "model.heads": CategoricalDistribution([7]),
}


@pytest.fixture
def sweep_file(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What the command prints of the space above."""
    space = {parameter.name: parameter.wandb_form() for parameter in SPACE}
    write_sweep(here, search={"space": space, "extras": {}}, wandb={"project": "p"})
    assert main(["wandb-sweep", "--variant", "stn_affine+affine", "--budget", "smoke"]) == 0
    file = here / "sweep-of-wandb.yaml"
    file.write_text(capsys.readouterr().out)
    return file


def test_wandb_reads_the_same_space(sweep_file: Path) -> None:
    made = yaml.safe_load(sweep_file.read_text())
    read = load_sweep_config(str(sweep_file))
    assert read is not None and read == made
    assert (made["project"], made["method"]) == ("p", "bayes")
    assert _validate_config_and_fill_distribution(read) == made  # it found nothing to fill in
    assert all("distribution" in spec for spec in made["parameters"].values())
    assert search_space_from_sweep_config(read["parameters"]) == DISTRIBUTIONS
    assert made["metric"] == {"name": "val/accuracy", "goal": "maximize"}


def test_agent_starts_the_run(sweep_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[list[str]] = []

    class Process:
        last_sigterm_time = None

        def __init__(self, command: list[str], **_: Any) -> None:
            started.append(command)

    monkeypatch.setattr("wandb.wandb_agent.AgentProcess", Process)
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # which the agent sets: to be put back
    made = yaml.safe_load(sweep_file.read_text())
    agent = Agent(api=None, queue=None, sweep_id="s")
    agent._sweep_command = made["command"]
    args = {"optim.lr": {"value": 0.1}, "model.width": {"value": 16}}
    agent._command_run({"type": "run", "run_id": "r1", "program": made["program"], "args": args})
    (command,) = started
    searched = ["--optim.lr=0.1", "--model.width=16"]
    run = ["run", "--variant", "stn_affine+affine", "--stage", "trial"]
    run += ["--sweep", "sweep.yaml", "--budget", "smoke", "--runs", "runs"]
    assert command == ["/usr/bin/env", "python", "-m", "experiments", *run, *searched]


def test_a_variant_without_parameters_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here, search={})
    assert main(["wandb-sweep", "--variant", "stn_affine+affine", "--budget", "smoke"]) == 2
    assert capsys.readouterr().err == "error: wandb-sweep: 'stn_affine+affine' has no parameters to search\n"
