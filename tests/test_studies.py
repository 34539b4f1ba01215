"""The studies that come with the program: each can be planned at every budget and carried out at the smallest."""

import csv
import dataclasses
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from baselines.policies import POLICIES
from experiments.ledger import Ledger
from experiments.models import MODELS
from experiments.plan import make_plan
from experiments.poses import spell_pose
from experiments.study import load_study
from experiments.variants import parse_variant
from stn.transformations import TRANSFORMATIONS
from tests.command_line import run

STUDIES = {path.stem: path for path in sorted((Path(__file__).parents[1] / "experiments/studies").glob("*.yaml"))}
SMOKE_TEST = "test_the_study_at_budget_smoke"
Smoke = dict[str, "Future[tuple[subprocess.CompletedProcess[str], Path]]"]


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_can_be_built_at_the_large_budgets(name: str, cache: Path) -> None:
    for budget in ("cpu", "gpu"):
        study = dataclasses.replace(load_study(STUDIES[name], budget), task="sprites")  # the others are downloads
        plan = make_plan(study, label="", cache=cache, say=lambda line: None)
        assert len(plan.arms) == len(study.poses) * len(study.variants)
        assert all(arm.parameters for arm in plan.arms)


@pytest.fixture(scope="module")
def smoke(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Smoke]:
    """The command line's end at budget smoke for each study that is asked for, two at a time, and where it wrote."""
    asked = [name for name in STUDIES if f"{SMOKE_TEST}[{name}]" in {item.name for item in request.session.items}]

    def carry_out(name: str) -> "tuple[subprocess.CompletedProcess[str], Path]":
        folder = tmp_path_factory.mktemp(name, numbered=False)
        options = ("--budget", "smoke", "--jobs", 1, "--runs", folder / "ledger", "--reports", folder / "out")
        return run("sweep", "--sweep", STUDIES[name], *options, cwd=folder), folder

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setenv("WANDB_MODE", "disabled")  # what W&B gets is other tests' matter, and takes seconds
        yield {name: pool.submit(carry_out, name) for name in asked}


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_study_at_budget_smoke(name: str, smoke: Smoke) -> None:
    ended, tmp_path = smoke[name].result()
    assert (ended.returncode, ended.stderr) == (0, "")
    study = load_study(STUDIES[name], "smoke")
    ledger = Ledger(tmp_path / "ledger", read_only=True)
    (carried_out,) = ledger.studies()
    arms = ledger.read_study(carried_out)["arms"]
    variants = [str(parse_variant(entry.variant)) for entry in study.variants]
    named = [(spell_pose(pose), variant) for pose in study.poses for variant in variants]
    assert [(arm["pose"], arm["variant"]) for arm in arms] == named
    finals = {}
    for arm in arms:
        records = [ledger.read(key) for key in (*arm["trials"], *arm["finals"])]
        assert [record["status"] for record in records] == ["completed"] * 2, arm
        finals[arm["pose"], arm["variant"]] = records[1]["result"]

    def rows(file: str) -> dict[tuple[str, str], dict[str, str]]:
        with (tmp_path / "out" / carried_out / file).open(newline="") as lines:
            return {(row["pose"], row["variant"]): row for row in csv.DictReader(lines)}

    table = rows("ablation.csv")
    assert list(table) == named
    for arm_name, result in finals.items():
        assert float(table[arm_name]["test_accuracy"]) == pytest.approx(result["test_accuracy"])
    markdown = (tmp_path / "out" / carried_out / "ablation.md").read_text()
    assert all(f"| {variant} |" in markdown for _, variant in named)
    looked = [arm_name for arm_name, result in finals.items() if result["transformer"]]
    assert looked and list(rows("transformer.csv")) == looked


def test_the_studies_leave_nothing_out() -> None:
    """Every model takes part in some study, every policy in the ladder, every transformation in its family's."""
    gpu = {name: load_study(path, "gpu") for name, path in STUDIES.items()}
    variants = {name: [parse_variant(entry.variant) for entry in study.variants] for name, study in gpu.items()}
    assert {variant.model for its in variants.values() for variant in its} == set(MODELS)
    assert {variant.policy for variant in variants["augmentation"]} == set(POLICIES)
    assert {f"stn_{name}" for name in TRANSFORMATIONS} <= {variant.model for variant in variants["transformers"]}


def test_a_study_is_named_after_its_file() -> None:
    assert len(STUDIES) == 11
    for name, path in STUDIES.items():
        assert load_study(path, "smoke").name == name.replace("_", "-")
