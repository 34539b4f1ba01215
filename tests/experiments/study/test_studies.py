"""The studies that come with the program: each can be planned at every budget and carried out at the smallest."""

import csv
import dataclasses
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from analysis.figures import registry
from baselines.policies import POLICIES
from experiments.images.poses import spell_pose
from experiments.networks.models import MODELS
from experiments.networks.variants import parse_variant
from experiments.runs.run import Job, make_run
from experiments.study.plan import make_plan
from experiments.study.study import BUDGETS, load_study
from experiments.sweep.executors.local import LocalExecutor
from experiments.terminal.cli import main
from ledger.ledger import Ledger
from stn.transformations import TRANSFORMATIONS
from tests.support.project import ROOT

STUDIES = {path.stem: path for path in sorted((ROOT / "experiments/studies").glob("*.yaml"))}


@pytest.mark.long
@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_can_be_built_at_the_large_budgets(name: str, cache: Path) -> None:
    for budget in ("cpu", "gpu"):
        study = dataclasses.replace(load_study(STUDIES[name], budget), task="sprites")  # the others are downloads
        plan = make_plan(study, label="", cache=cache, say=lambda line: None)
        assert len(plan.arms) == len(study.poses) * len(study.variants)
        assert all(arm.parameters for arm in plan.arms)


def make_at_once(executor: LocalExecutor, job: Job) -> "Future[str]":
    """In the place of LocalExecutor.submit: no process to start, which takes as long as a study's runs."""
    future: Future[str] = Future()
    future.set_result(make_run(job, torch.device("cpu")))
    return future


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_study_at_budget_smoke(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")  # what W&B gets is other tests' matter, and takes seconds
    monkeypatch.setattr(LocalExecutor, "submit", make_at_once)
    monkeypatch.delitem(registry.FORMATS, "pdf")  # the report does without, and its fonts take the longest
    torch.set_num_threads(1)
    options = ["--budget", "smoke", "--runs", "ledger", "--reports", "out"]
    assert main(["sweep", "--sweep", str(STUDIES[name]), *options]) == 0
    study = load_study(STUDIES[name], "smoke")
    ledger = Ledger(here / "ledger", read_only=True)
    (carried_out,) = ledger.studies()
    arms = ledger.read_study(carried_out)["arms"]
    variants = [str(parse_variant(variant)) for variant in study.variants]
    named = [(spell_pose(pose), variant) for pose in study.poses for variant in variants]
    assert [(arm["pose"], arm["variant"]) for arm in arms] == named
    finals = {}
    for arm in arms:
        records = [ledger.read(key) for key in (*arm["trials"], *arm["finals"])]
        assert [record["status"] for record in records] == ["completed"] * 2, arm
        finals[arm["pose"], arm["variant"]] = records[1]["result"]

    def rows(file: str) -> dict[tuple[str, str], dict[str, str]]:
        with (here / "out" / carried_out / file).open(newline="") as lines:
            return {(row["pose"], row["variant"]): row for row in csv.DictReader(lines)}

    table = rows("ablation.csv")
    assert list(table) == named
    for arm_name, result in finals.items():
        assert float(table[arm_name]["test_accuracy"]) == pytest.approx(result["test_accuracy"])
    markdown = (here / "out" / carried_out / "ablation.md").read_text()
    assert all(f"| {variant} |" in markdown for _, variant in named)
    looked = [arm_name for arm_name, result in finals.items() if result["transformer"]]
    assert bool(looked) == (name != "recipe")  # which has no transformer
    assert (list(rows("transformer.csv")) if looked else []) == looked


def test_the_studies_leave_nothing_out() -> None:
    """Every model takes part in some study, every policy in the ladder, every transformation in its family's."""
    gpu = {name: load_study(path, "gpu") for name, path in STUDIES.items()}
    variants = {name: [parse_variant(variant) for variant in study.variants] for name, study in gpu.items()}
    assert {variant.model for its in variants.values() for variant in its} == set(MODELS)
    assert {variant.policy for variant in variants["augmentation"]} == set(POLICIES)
    assert {f"stn_{name}" for name in TRANSFORMATIONS} <= {variant.model for variant in variants["transformers"]}


def test_studies_of_plain_sgd_stay_what_they_were() -> None:
    """Whatever the defaults are."""
    for budget in BUDGETS:
        for name, momentum, nesterov, schedule in (
            ("document", 0.0, False, "constant"),
            ("mnist_table1", 0.9, True, "one_cycle"),
        ):
            study = load_study(STUDIES[name], budget)
            protocol = study.protocol
            assert (protocol.optimiser, protocol.averaging, protocol.width) == ("sgd", False, 1.0)
            assert (protocol.momentum, protocol.nesterov, protocol.schedule) == (momentum, nesterov, schedule)
            assert protocol.label_smoothing == 0
            backbones = {parse_variant(variant).backbone for variant in study.variants}
            assert backbones == ({"lenet"} if name == "document" else {"fcn", "cnn4"})


def test_a_study_is_named_after_its_file() -> None:
    assert len(STUDIES) == 16
    for name, path in STUDIES.items():
        assert load_study(path, "smoke").name == name.replace("_", "-")
