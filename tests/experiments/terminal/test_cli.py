"""The command line: what each command does."""

import dataclasses
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import benchmarks.cli
from experiments.networks import catalogue
from experiments.networks.models import MODELS
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import command_line, main
from experiments.tracking.tracker import Tracker
from ledger.ledger import Ledger
from ledger.options import fields
from tests.support.command_line import stamps, start
from tests.support.project import ROOT
from tests.support.tiny_study import plan_of, write_sweep

TUTORIAL = ROOT / "experiments/configs/tutorial.yaml"


COMMANDS = tuple(command_line().commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_a_file(command: str) -> None:
    assert callable(importlib.import_module(f"experiments.terminal.commands.{command.replace('-', '_')}").main)


@pytest.mark.parametrize(
    ("program", "command"),
    [("experiments", command) for command in COMMANDS]
    + [("benchmarks", command) for command in benchmarks.cli.command_line().commands],
)
def test_every_command_explains_itself(program, command, here, capsys):
    with pytest.raises(SystemExit) as ended:
        (main if program == "experiments" else benchmarks.cli.main)([command, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: python -m {program} [options] {command}")
    arguments = re.findall(r"^  (?:-h, )?(--[\w.]+)(?: [^ ]+)?( {2,}|\n {10,}|\n)(\S?)", printed, re.MULTILINE)
    assert arguments and all(text for name, _, text in arguments), arguments


@pytest.mark.parametrize("is_on_path", [True, False])
def test_what_is_printed_can_be_typed(is_on_path: bool, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["stn-bench"].partition(":")
    script = tmp_path / "a folder/stn-bench"  # as pip writes it
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom {module} import {name}\nif __name__ == '__main__':\n    {name}()\n")
    script.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    if is_on_path:
        environment["PATH"] = f"{script.parent}:{os.environ['PATH']}"
    said = "stn-bench" if is_on_path else shlex.quote(str(script))
    for typed, form in (([script.name if is_on_path else script], said),
                        ([sys.executable, "-m", "experiments"], f"{sys.executable} -m experiments")):  # fmt: skip
        ended = subprocess.run(
            [*typed, "variants"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert f"`{form} variants NAME` says all" in " ".join(ended.stdout.split())


def test_help_speaks_of_arguments_and_not_of_types(capsys: pytest.CaptureFixture[str]) -> None:
    for command, line in (
        ("sweep", "--data PATH folder of images to use as the task, in place of the file's task --label LABEL what "),
        ("sweep", "--jobs N worker processes; 0 takes as many as pay (default: 0) "),
        ("run", "--protocol.epochs N passes over the training images (default: that of the study, else "),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        printed = " ".join(capsys.readouterr().out.split())
        assert line in printed and not re.search("type: |class '|null|default: [)]|default: False", printed)


def test_commands_are_listed_where_none_is_given(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^ +{command} +\S", printed, re.MULTILINE) for command in COMMANDS)


def test_help_and_typing_errors_do_not_wait_for_torch() -> None:
    program = (
        "import sys\nfrom experiments.terminal.cli import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert main(['sweeep']) == 2 and 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr == "error: unknown command 'sweeep'; did you mean 'sweep'?\n"


def test_the_first_line_does_not_wait_for_torch_or_pandas(here: Path) -> None:
    program = """
import sys
from experiments.terminal import cli

def about_to_begin(name):
    print(name.rpartition(".")[2], *{"torch", "pandas", "scipy", "optuna", "matplotlib"} & set(sys.modules))
    raise KeyboardInterrupt

cli.importlib.import_module = about_to_begin
cli.find_run_defaults = lambda arguments: about_to_begin("run")
for command in ("plan", "sweep", "run", "tables", "report", "probe x", "export k", "predict k x", "variants", "status",
                "predict k x --json", "wandb-sweep", "look"):
    cli.main(command.split())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=here)
    assert ended.stdout.splitlines() == [
        *("Reading the study sweep.yaml ...", "plan", "Reading the study sweep.yaml ...", "sweep"),
        *("Reading the study and the settings of the run ...", "run"),
        *("Reading the ledger runs ...", "tables", "Reading the ledger runs ...", "report"),
        *("Looking at the images in x ...", "probe", "Reading the run k of runs ...", "export"),
        *("Reading the run k of runs ...", "predict", "Reading models, policies and tasks ...", "variants"),
        *("status", "predict", "wandb_sweep"),  # what is quick, and what a program reads
        *("Reading the study sweep.yaml ...", "look"),
    ]


SMALL_RUN = [
    *("--protocol.train_images=64", "--protocol.val_images=32", "--protocol.test_images=50"),
    *("--protocol.epochs=2", "--protocol.batch_size=32", "--protocol.precision=fp32", "--protocol.device=cpu"),
]


@pytest.mark.long
def test_a_run_takes_arguments_as_a_wandb_agent_gives_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agents = ["--optim.lr=0.1", "--optim.weight_decay=1e-3", "--model.loc_lr_factor=1", "--policy.max_deg=5"]
    command = ["run", "--task=sprites", "--variant=stn_affine+affine", "--seed=3", "--pose=R", *SMALL_RUN]
    assert main([*command, *agents]) == 0
    printed = capsys.readouterr().out
    (folder,) = (here / "runs/runs").iterdir()
    assert f"Run {folder.name} in runs/runs/{folder.name}\n" in printed
    assert re.search(r"^epoch 2/2   train +\d", printed, re.MULTILINE)
    record = Ledger(here / "runs").read(folder.name)
    config, result = record["config"], record["result"]
    assert (record["status"], config["variant"], config["seed"]) == ("completed", "stn_affine+affine", 3)
    assert (config["stage"], config["pose"], config["protocol"]["epochs"]) == ("trial", "R", 2)
    assert config["optim"] == {"lr": 0.1, "weight_decay": 0.001}
    assert config["model"]["loc_lr_factor"] == 1.0
    assert config["model"] == fields(MODELS["stn_affine"]) | {"loc_lr_factor": 1.0}
    assert config["policy"]["max_deg"] == 5.0
    assert f"val {100 * result['val_accuracy']:.1f} %" in re.sub(r"val +", "val ", printed)
    assert result["test_accuracy"] is None  # the test set is for those who ask for it
    assert [path.name for path in (here / "runs/wandb/logged").iterdir()] == [folder.name]

    before = stamps(here / "runs/runs")
    assert main([*command, *agents]) == 0
    assert "epoch" not in capsys.readouterr().out
    assert stamps(here / "runs/runs") == before


def test_a_run_hands_on_at_each_epoch_what_the_tracker_did_not_take(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = list[Tracker]()
    monkeypatch.setattr(Tracker, "tick", lambda tracker: ticks.append(tracker))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["run", "--task=sprites", "--variant=cnn", *SMALL_RUN]) == 0
    assert len(ticks) == 2


def test_a_run_alone_is_the_run_of_the_study(here: Path) -> None:
    """`run` with nothing but a variant makes the run that a sweep would make of it, under the same key."""
    under_way = Sweep(plan_of(here, poses=["R"]), Ledger(here / "runs", read_only=True), store=False)
    under_way.replay()
    assert main(["run", "--budget=smoke", "--variant=stn_affine+affine", "--stage=trial"]) == 0
    assert [key.name for key in (here / "runs/runs").iterdir()] == [under_way.arms[1].trials[0]]


def test_a_run_that_diverges_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    assert main(["run", "--optim.lr=9e5", "--optim.weight_decay=9e5", "--protocol.epochs=3"]) == 1
    printed = capsys.readouterr().out
    assert "diverged" in printed
    (folder,) = (here / "runs/runs").iterdir()
    assert Ledger(here / "runs").read(folder.name)["status"] == "diverged"


def test_the_tutorials_own_protocol_is_a_config_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = command_line().parser.parse_args(["run", "--config", str(TUTORIAL)])["run"]
    protocol = options.protocol
    assert (options.task, options.variant, options.pose) == ("cifar10", "stn_affine@lenet", "upright")
    assert (protocol.epochs, protocol.batch_size, protocol.schedule) == (50, 64, "constant")
    assert (protocol.momentum, protocol.nesterov, protocol.label_smoothing) == (0, False, 0)
    assert (protocol.optimiser, protocol.schedule, protocol.averaging) == ("sgd", "constant", False)
    assert (protocol.train_images, protocol.val_images, protocol.test_images) == (0, 0, 0)
    assert (options.optim.lr, options.optim.weight_decay, options.model) == (0.01, 0, {"loc_lr_factor": 1})

    # An argument after the file decides.
    small = ["--protocol.train_images=64", "--protocol.test_images=50", "--protocol.epochs=1"]
    assert main(["run", "--config", str(TUTORIAL), "--task=sprites", *small]) == 0
    (folder,) = (here / "runs/runs").iterdir()
    record = Ledger(here / "runs").read(folder.name)
    assert (record["config"]["variant"], record["config"]["protocol"]["momentum"]) == ("stn_affine@lenet", 0.0)
    assert (record["result"]["num_parameters"], record["result"]["num_val_images"]) == (39_884, 0)
    assert record["result"]["val_accuracy"] is None and record["result"]["num_test_images"] == 50


def test_variants_lists_everything_that_has_a_name(here, capsys, monkeypatch):
    assert main(["variants", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"model", "backbone", "library", "policy", "task", "pose"}
    assert {"cnn", "cnn_matched", "stn_affine"} <= set(report["model"])
    assert report["model"]["stn_affine"]["hyper-parameters"]["loc_lr_factor"] == 0.1
    assert report["model"]["stn_affine"]["choices"]["place"] == ["input", "feature", "shared"]
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["variants"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) < width
        text = " ".join(" ".join(lines).split())
        for kind, entries in report.items():
            assert kind in lines
            assert all(f"{name} {entry['what']}" in text for name, entry in entries.items())  # nothing is cut off
        assert sum(line.startswith(f"{'':19}") for line in lines) > 5  # what is wrapped hangs below its beginning


def test_variants_says_all_about_a_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["variants", "cnn", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {kind: list(entries) for kind, entries in report.items()} == {"model": ["cnn"], "backbone": ["cnn"]}
    assert report["backbone"]["cnn"]["hyper-parameters"] == {"width": 1.0}
    assert main(["variants", "stn_tps"]) == 0
    printed = capsys.readouterr().out
    assert "model stn_tps" in printed and "Thin-plate spline" in printed
    assert re.search(r"^ +padding +zeros +border, reflection *$", printed, re.MULTILINE)
    assert main(["variants", "stn_tsp"]) == 2
    assert capsys.readouterr().err == "error: variants: 'stn_tsp' is unknown; did you mean 'stn_tps'?\n"


def test_what_is_said_of_a_name_is_cut_only_where_programs_are_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Contrast:
        """Raises the contrast by 1.5 times at most.

        top: under 2. Raises ValueError from 2.0 on,
        and for less than 1.5. Arguments as of BuildTask. Grey stays.
        """

    monkeypatch.setattr(catalogue, "KINDS", {"policy": {"contrast": Contrast}})
    about = catalogue.catalogue("contrast")["policy"]["contrast"]["about"]
    assert about == "Raises the contrast by 1.5 times at most.\n\ntop: under 2. Grey stays."


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "stn_affine:place=shared@resnet18:width=0.5+affine:max_deg=30",
            {
                ("model", "stn_affine"): {"place": "shared"},
                ("backbone", "resnet18"): {"width": 0.5},
                ("policy", "affine"): {"max_deg": 30.0},
            },
        ),
        ("stn_affine+affine", {("model", "stn_affine"): {}, ("policy", "affine"): {}}),
        ("cnn@lenet", {("model", "cnn"): {}, ("backbone", "lenet"): {}}),
        ("cnn+none", {("model", "cnn"): {}, ("policy", "none"): {}}),
        ("rotate:max_deg=20", {("policy", "rotate"): {"max_deg": 20.0}}),
        ("resnet18:width=2", {("backbone", "resnet18"): {"width": 2.0}}),
        ("R:max_deg=30", {("pose", "R"): {"max_deg": 30.0}}),
        ("folder:pictures", {("task", "folder"): {}}),
    ],
)
def test_variants_explains_each_part_of_a_name(name, parts, capsys):
    assert main(["variants", name, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {(kind, each): entry["given"] for kind, entries in report.items() for each, entry in entries.items()}
    assert found == parts
    assert main(["variants", name]) == 0
    printed = capsys.readouterr().out
    assert all(f"{kind} {each}\n" in printed for kind, each in parts) and "Raises" not in printed
    assert not found.get(("policy", "affine")) or re.search(r"^ +max_deg +30 +15 *$", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stn_affine+afine", "variant: 'stn_affine+afine' has the unknown policy 'afine'; did you mean 'affine'?"),
        ("R:max_dge=3", "pose.max_dge: R has no such hyper-parameter; did you mean 'max_deg'?"),
        ("stn_tps:steps=2", "model.steps: maps of this transformation do not compose; take steps=1"),
        (
            "affine+cnn",
            "variant: 'affine+cnn' has the unknown model 'affine'; it is a policy: write cnn+affine",
        ),
    ],
)
def test_variants_refuses_parts_that_do_not_exist(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["variants", name]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_plan_is_printed_and_nothing_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    assert main(["plan", "--budget=smoke", "--jobs=3"]) == 0
    printed = capsys.readouterr().out
    assert "Study tiny-sprites-smoke   budget smoke   protocol " in printed
    assert re.search(r"4 trials and 4 final runs; about \d+ s with 3 workers\.", printed)
    assert [path.name for path in here.iterdir()] == ["sweep.yaml"]
    assert "sweep.yaml has no budgets.smoke: what it says applies as it stands, whatever that takes." in printed
    assert main(["plan"]) == 0
    assert "since " in capsys.readouterr().out.splitlines()[0]
    write_sweep(here, budgets={"smoke": {"final_seeds": 3, "first_seed": 101}})
    assert main(["plan", "--budget=smoke"]) == 0
    printed = capsys.readouterr().out
    assert "3 final runs from seed 101" in " ".join(printed.split())
    assert "6 final runs" in printed and "has no budgets" not in printed


def test_a_plan_says_where_trials_repeat_settings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = {"trials": 6, "wave_size": 3, "space": {"optim.lr": {"values": [0.1, 0.2]}}, "extras": {}}
    write_sweep(here, search=search)
    assert main(["plan", "--budget=smoke"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    said = "stn_affine+affine: the search space has 2 different settings; 4 trials or more of 6 repeat them."
    assert f"cnn, {said}" in printed
    search["extras"] = {"stn_affine": {"model.loc_lr_factor": {"min": 0.1, "max": 1.0}}}
    write_sweep(here, search=search)
    assert main(["plan", "--budget=smoke"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "cnn: the search space has 2 different settings" in printed and "stn_affine+affine:" not in printed


def test_a_plan_says_what_goes_on_where_it_was(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(here / "runs")
    under_way = Sweep(plan_of(here), ledger, store=False)
    under_way.replay()
    for arm, epochs in zip(under_way.arms, ([1], [0, 1]), strict=True):
        folder = ledger.checkpoints(arm.jobs[0].key)
        folder.mkdir()
        for epoch in epochs:
            (folder / f"epoch-{epoch:05}-{'0' * 64}.safetensors").write_bytes(b"")
    assert main(["plan", "--budget=smoke"]) == 0
    assert "4 final runs, 2 go on where they were (epoch 1, 1 of 2); about " in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_reader_that_has_seen_enough_gets_no_traceback(here: Path) -> None:
    process = start("variants", cwd=here)
    assert process.stdout and process.stderr
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "5f49"], "predict needs images: image files, and folders of them"),
        (["export"], "export needs run: the run's key, its beginning, or its folder"),
        (["--runs=runs", "status"], "unknown argument --runs; --help lists them"),
    ],
)
def test_what_is_lacking_is_said_in_a_plain_line(arguments: list[str], said: str, capsys) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", f"error: {said}\n")
