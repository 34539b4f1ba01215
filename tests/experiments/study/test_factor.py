"""A factor of a study: each of its values makes a study of its own, by overrides."""

import csv
import json
import re
from pathlib import Path

import pytest

from experiments.study.factor import Factor
from experiments.study.study import load_studies, load_study
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import main
from ledger.committed import read_manifest
from ledger.errors import UserError
from ledger.forms import misfit
from ledger.ledger import Ledger
from ledger.overrides import typed_overrides
from tests.support.tiny_study import TINY, plan_of, write_sweep

EPOCHS = {"protocol.epochs": [1, 2]}
REWRITTEN = ("*.md", "*.csv", "*.gz", "*.tex", "*.html", "contact-sheet.png")


def test_each_value_is_a_study_of_its_own(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, factor={"protocol.width": [1, 0.5]}, budgets={"big": {"protocol": {"epochs": 3}}})
    studies = load_studies(path, "big")
    assert [study.full_name("Sprites") for study in studies] == [
        "tiny-width-1-sprites-big",
        "tiny-width-0-5-sprites-big",
    ]
    assert [(study.protocol.width, study.protocol.epochs) for study in studies] == [(1.0, 3), (0.5, 3)]
    assert [study.factor.text(study.name) for study in studies] == ["protocol.width=1", "protocol.width=0.5"]


def test_a_value_is_made_again_by_what_study_json_says_was_set(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, factor=EPOCHS)
    for study in load_studies(path, "smoke", given=["final_seeds=3"]):
        (again,) = load_studies(path, "smoke", given=typed_overrides(study.overrides))
        assert (again.name, again.protocol, again.final_seeds) == (study.name, study.protocol, 3)
        assert again.factor == Factor()
        assert set(study.overrides) == {"final_seeds", "name", "factor", "protocol.epochs"}


def test_a_study_without_one_is_what_it_was(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    assert load_studies(path, "smoke") == (load_study(path, "smoke"),)
    assert load_studies(write_sweep(tmp_path, factor=None), "smoke") == (load_study(path, "smoke"),)


def test_a_budget_may_have_another_one_and_the_command_line_too(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, factor=EPOCHS, budgets={"big": {"factor": {"protocol.width": [1, 2, 3]}}})
    assert [load_studies(path, budget)[0].factor.key for budget in ("smoke", "big")] == [*EPOCHS, "protocol.width"]
    assert load_studies(path, "big", given=["factor="])[0].name == "tiny"
    for given in ("factor={protocol.batch_size: [16, 32]}", "factor.protocol.batch_size=[16, 32]"):
        studies = load_studies(write_sweep(tmp_path), "smoke", given=[given])
        assert [study.protocol.batch_size for study in studies] == [16, 32]


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        ({"protocol.image_pxs": [16, 32]}, "factor.protocol.image_pxs: unknown key; did you mean 'protocol.image_px'?"),
        ({"image_px": [16, 32]}, "factor.image_px: unknown key; did you mean 'protocol.image_px'?"),
        ({"protocol.epochs": [2]}, "factor.protocol.epochs: has 1 of the 2 to 8 values that can be compared"),
        ({"protocol.epochs": [*range(1, 10)]}, "factor.protocol.epochs: has 9 of the 2 to 8"),
        ({"protocol.epochs": 2}, "factor.protocol.epochs: 2 is not a list of at least one"),
        ({"protocol.epochs": [2, 2]}, "factor.protocol.epochs: 2 is there twice"),
        ({"protocol.width": [1, 1.0]}, "factor.protocol.width: 1 is there twice"),
        ({"protocol.epochs": [2, 0]}, "factor: protocol.epochs: 0 is not between 1 and 10000"),
        ({"protocol.schedule": ["triangle", "one_cicle"]}, "factor: protocol.schedule: 'one_cicle' is unknown;"),
        ({"protocol.epochs": [1, 2], "protocol.width": [1, 2]}, "factor.protocol.width: a study has one factor"),
        ([1, 2], "factor: [1, 2] is not a set of keys with values"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(tmp_path: Path, factor: object, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"sweep.yaml: {message}")):
        load_studies(write_sweep(tmp_path, factor=factor), "smoke")


def test_what_is_set_must_leave_the_factor_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape("SET: protocol.epochs: is the factor of this study; factor= takes")):
        load_studies(write_sweep(tmp_path, factor=EPOCHS), "smoke", given=["protocol.epochs=4"])


def test_the_manifest_names_the_studies_of_all_values(tmp_path: Path, cache: Path) -> None:
    assert "factor" not in Sweep(plan_of(tmp_path), Ledger(tmp_path / "runs"), store=False).about
    plan = plan_of(tmp_path)
    study = load_studies(write_sweep(tmp_path, factor=EPOCHS), "smoke")[1]
    about = Sweep(plan.__class__(**{**vars(plan), "study": study}), Ledger(tmp_path / "runs"), store=False).about
    names = ["tiny-epochs-1-sprites-smoke", "tiny-epochs-2-sprites-smoke"]
    assert about["factor"] == {"key": "protocol.epochs", "values": [1, 2], "studies": names}
    assert not misfit("study.json", about)
    assert misfit("study.json", about | {"factor": {"key": "protocol.epochs"}}) == "'values' is missing"


@pytest.mark.parametrize(
    ("factor", "changes", "message"),
    [
        (
            {"protocol.train_images": [20_000, 30_000]}, {},
            "factor: protocol.train_images=20000 and protocol.train_images=30000 come to the same",
        ),
        (
            {"protocol.epochs": [2, 1]}, {"ladder": {"rungs": [{"epochs": 1}]}},
            "does not rise to the study's own size (96 images x 1 epoch) (at protocol.epochs=1)",
        ),
    ],
)  # fmt: skip
def test_values_that_come_to_nothing_are_refused_by_the_plan(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str],
    factor: dict[str, list[int]], changes: dict[str, object], message: str,
) -> None:  # fmt: skip
    path = write_sweep(tmp_path, factor=factor, **changes)
    assert main(["sweep", "--sweep", str(path), "--budget", "smoke", "--runs", str(tmp_path / "runs")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_one_sweep_makes_them_all_and_then_nothing(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = TINY["search"] | {"trials": 1, "extras": {}}
    variants = [{"variant": name, "baseline": "cnn"} for name in ("cnn", "cnn+affine")]
    path = write_sweep(
        tmp_path, factor=EPOCHS, search=search, variants=variants, final_seeds=1, wandb={"mode": "disabled"}
    )
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    given = ["--sweep", str(path), "--budget", "smoke", "--runs", str(runs), "--jobs", "1"]
    assert main(["sweep", *given, "--reports", str(reports)]) == 0
    made = {file: file.stat().st_mtime_ns for folder in (runs / "runs", reports) for file in folder.rglob("*.*")}
    texts = {file: file.read_bytes() for name in REWRITTEN for file in reports.rglob(name)}
    names = [f"tiny-epochs-{epochs}-sprites-smoke" for epochs in (1, 2)]
    tables = [(reports / name / "dependence.csv").read_text().splitlines() for name in names]
    assert [line.partition(",")[2] for line in tables[0]] == [line.partition(",")[2] for line in tables[1]]
    for row in csv.DictReader(tables[0]):
        manifest = read_manifest(runs / "studies" / f"tiny-epochs-{row['value']}-sprites-smoke" / "study.json")
        (arm,) = (arm for arm in manifest["arms"] if arm["variant"] == row["variant"])
        (key,) = arm["finals"]
        result = json.loads((runs / "runs" / key / "run.json").read_text())["result"]
        assert float(row["test_accuracy"]) == pytest.approx(result["test_accuracy"])
        assert row["run_keys"].split() == arm["finals"]
    assert main(["plan", *given]) == 0
    assert "All 2 values of protocol.epochs: 8 runs; nothing is left to train." in capsys.readouterr().out
    assert main(["sweep", *given, "--reports", str(reports)]) == 0
    now = {file: file.stat().st_mtime_ns for file in made if file not in texts}
    assert now == {file: made[file] for file in now}
    assert {file for file in texts if file.read_bytes() != texts[file]} == set()
