"""Bad input on the command line: exit status 2, one line that names it, nothing written."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.terminal import cli
from experiments.terminal.cli import main
from tests.support.command_line import contents, run, stamps
from tests.support.image_folders import make_classes, make_parts, pixels_of, save
from tests.support.project import ROOT
from tests.support.tiny_study import TINY, write_changed_sweep, write_sweep


def broken_images(root: Path) -> Path:
    make_parts(root)
    (root / "train/bee/0.png").write_bytes(b"\x89PNG and no more")
    return root


def one_class(root: Path) -> Path:
    for part in ("train", "test"):
        save(root / part / "ant/0.png", pixels_of(0))
    return root


def empty(root: Path) -> Path:
    root.mkdir()
    return root


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (
        lambda root: make_classes(root.with_name("picture")),
        r"folder 'pictures': does not exist; did you mean 'picture'\?",
    ),
    "a file": (lambda root: root.write_bytes(b""), "folder 'pictures': is not a folder"),
    "empty": (empty, "folder 'pictures': is empty"),
    "one class": (one_class, "folder 'pictures': has only one class in train/, 'ant'; at least two are needed"),
    "broken": (broken_images, "folder 'pictures': 1 of 18 images cannot be read, first 'train/bee/0.png': .+"),
}


def with_variant(name: str) -> list[dict[str, str]]:
    return [*TINY["variants"], {"variant": name, "baseline": "cnn"}]


# Arguments beside `sweep --budget smoke`.
SWEEPS = {
    "argument": (["--trails=3"], r"unknown argument --trails; .+"),
    "argument with a hyphen": (["--retry-failed"], r"unknown argument --retry-failed; did you mean '--retry_failed'\?"),
    "abbreviation": (["--report=x"], r"unknown argument --report; did you mean '--reports'\?"),
    "budget": (["--budget=huge"], r"sweep\.yaml: budgets: there is no budget 'huge'; known: cpu, gpu, night, smoke"),
    "budget misspelt": (["--budget=smok"], r"sweep\.yaml: budgets: there is no budget 'smok'; did you mean 'smoke'\?"),
    "budget of no name": (["--budget="], r"sweep\.yaml: budgets: there is no budget ''; known: .+"),
    "override without a value": (
        ["--set=protocol.epochs"],
        r"SET: 'protocol\.epochs' is not of the form KEY=VALUE, such as protocol\.epochs=10",
    ),
    "override of an unknown key": (["--set=epochs=3"], r"SET: epochs: unknown key; did you mean 'protocol\.epochs'\?"),
    "override of an unknown key of a section": (
        ["--set", "search.trials=1 protocol.epoch=3"],
        r"sweep\.yaml with SET: protocol\.epoch: unknown key; did you mean 'epochs'\?",
    ),
    "override that is no number": (
        ["--set=protocol.epochs=ten"],
        r"sweep\.yaml with SET: protocol\.epochs: 'ten' is not a whole number between 1 and 10000",
    ),
    "override of images": (
        ["--set=task=mnist", "--data=pictures"],
        r"SET: task: your own images \(DATA=\) take its place; give one of them",
    ),
    "no file": (["--sweep=swep.yaml"], r"swep\.yaml: cannot be read: No such file or directory"),
    "jobs": (["--jobs=-1"], "jobs: -1 is not between 0 and 1024"),
    "jobs absurd": (["--jobs=100000"], "jobs: 100000 is not between 0 and 1024"),
    "jobs a word": (["--jobs=all"], "--jobs: 'all' is not a whole number"),
    "workers": (["--workers_per_gpu=-2"], "workers_per_gpu: -2 is not between 0 and 1024"),
    "ledger a file": (["--runs=sweep.yaml"], r"runs: the ledger sweep\.yaml cannot be written \(.+\)"),
    "ledger in a file": (["--runs=sweep.yaml/x"], r"runs: the ledger sweep\.yaml/x cannot be written \(.+\)"),
}

# What stands in place of which value of sweep.yaml.
SWEEP_FILES: dict[str, tuple[list[str | int], Any, str]] = {
    "key": (["final_seed"], 3, r"sweep\.yaml: final_seed: unknown key; did you mean 'final_seeds'\?"),
    "value": (["protocol", "epochs"], 0, r"sweep\.yaml: protocol\.epochs: 0 is not between 1 and 10000"),
    "budget's value": (
        ["budgets", "gpu", "protocol", "epochs"],
        10**9,
        r"sweep\.yaml: budgets\.gpu\.protocol\.epochs: 1000000000 is not between 1 and 10000",
    ),
    "task": (["task"], "sprite", r"task 'sprite': unknown; did you mean 'sprites'\?"),
    "task with more": (["task"], "sprites:x", "task 'sprites:x': sprites takes nothing after its name"),
    "pose": (["poses"], ["RST"], r"sweep\.yaml: pose: 'RST' is unknown; did you mean 'RTS'\?"),
    "model": (
        ["variants"],
        with_variant("stn_afine"),
        r"sweep\.yaml: variant: 'stn_afine' has the unknown model 'stn_afine'; did you mean 'stn_affine'\?",
    ),
    "backbone": (
        ["variants"],
        with_variant("cnn@resnet"),
        r"sweep\.yaml: variant: 'cnn@resnet' has the unknown backbone 'resnet'; did you mean 'resnet18'\?",
    ),
    "policy": (
        ["variants"],
        with_variant("cnn+flipcrop"),
        r"sweep\.yaml: variant: 'cnn\+flipcrop' has the unknown policy 'flipcrop'; did you mean 'flip_crop'\?",
    ),
    "hyper-parameter": (
        ["search", "extras"],
        {"affine": {"policy.max_degrees": {"min": 1, "max": 2}}},
        r"sweep\.yaml: search: stn_affine\+affine has no 'policy\.max_degrees'; did you mean 'policy\.max_deg'\?",
    ),
    "hyper-parameter of one only": (
        ["search", "space", "policy.max_deg"],
        {"min": 1, "max": 9},
        r"sweep\.yaml: search: cnn has no 'policy\.max_deg'; .+",
    ),
    "hyper-parameter's value": (
        ["search", "extras"],
        {"affine": {"policy.max_scale": {"min": -3, "max": 2}}},
        r"sweep\.yaml: search: policy\.max_scale: -3\.0 is not between 1 and 10",
    ),
    "image_px": (["protocol", "image_px"], 9, "stn_affine.affine on images of 9 px: .+ of 18 px or more, got 9"),
    "width": (["protocol", "width"], 0, r"sweep\.yaml: protocol\.width: 0 is not between 0\.01 and 100\.0"),
    "muon without filters": (
        ["variants", 1, "variant"],
        "stn_affine@fcn",
        r"protocol\.optimiser: muon trains filters of convolutions, and the backbone of stn_affine@fcn has none; "
        "write optimiser: sgd or adamw",
    ),
    "recipe of another backbone": (
        ["variants"],
        [*TINY["variants"], {"variant": "cnn_recipe@lenet", "baseline": "cnn"}],
        "cnn_recipe@lenet on images of 32 px: cnn_recipe takes parts of the backbone cnn away, and this is another one",
    ),
    "tracker": (["tracker"], "trackoi", r"sweep\.yaml: tracker: 'trackoi' is unknown; did you mean 'trackio'\?"),
    "not logged in": (["wandb", "mode"], "online", r"not logged in to W&B: .+"),
}

RUNS = {
    "argument": (["--sed=3"], r"unknown argument --sed; did you mean '--seed'\?"),
    "abbreviation": (
        ["--protocol.epoch=3"],
        r"unknown argument --protocol\.epoch; did you mean '--protocol\.epochs'\?",
    ),
    "seed": (["--seed=-1"], "seed: -1 is negative"),
    "seed that no table takes": ([f"--seed={10**15 + 1}"], "seed: 1000000000000001 is above 1000000000000000"),
    "seed a fraction": (["--seed=1.5"], "--seed: '1.5' is not a whole number"),
    "stage": (["--stage=finl"], r"--stage: 'finl' is unknown; did you mean 'final'\?"),
    "pose": (["--pose=upriht"], r"pose: 'upriht' is unknown; did you mean 'upright'\?"),
    "task": (["--task=folder"], "task 'folder': needs a path, as in folder:PATH"),
    "task unknown": (["--task=cifar"], r"task 'cifar': unknown; did you mean 'cifar10'\?"),
    "model": (["--variant=cn"], r"variant: 'cn' has the unknown model 'cn'; did you mean 'cnn'\?"),
    "backbone": (["--variant=cnn@lenett"], r".* unknown backbone 'lenett'; did you mean 'lenet'\?"),
    "meant by its last word": (["--epochs=3"], r"unknown argument --epochs; did you mean '--protocol\.epochs'\?"),
    "after a bare word": (["cnn", "--epochs=3"], r"unknown argument --epochs; did you mean '--protocol\.epochs'\?"),
    "synonym": (["--learning_rate=3"], r"unknown argument --learning_rate; did you mean '--optim\.lr'\?"),
    "device": (["--protocol.device=gpu"], r"--protocol\.device: 'gpu' is unknown; did you mean 'cuda'\?"),
    "policy": (["--variant=cnn+"], r"variant: 'cnn\+' has the unknown policy ''; known: .+"),
    "lr nan": (["--optim.lr=nan"], "--optim.lr: 'nan' is not a number"),
    "lr .nan": (["--optim.lr=.nan"], "optim.lr: nan is not between 0 and 1e6"),
    "lr negative": (["--optim.lr=-0.1"], "optim.lr: -0.1 is not between 0 and 1e6"),
    "lr infinite": (["--optim.lr=.inf"], "optim.lr: inf is not between 0 and 1e6"),
    "optim": (["--optim.lrr=0.1"], r"unknown argument --optim\.lrr; did you mean '--optim\.lr'\?"),
    "hyper-parameter": (
        ["--variant=stn_affine", "--model.loc_lr=1"],
        r"model\.loc_lr: stn_affine has no such hyper-parameter; did you mean 'loc_lr_factor'\?",
    ),
    "hyper-parameter .nan": (["--variant=stn_affine", "--model.loc_lr_factor=.nan"], r"model\.loc_lr_factor: nan .+"),
    "policy .nan": (["--variant=cnn+rotate", "--policy.max_deg=.nan"], r"policy\.max_deg: nan .+"),
    "policy infinite": (["--variant=cnn+affine", "--policy.max_scale=.inf"], r"policy\.max_scale: inf .+"),
    "prune_below a word": (
        ["--prune_below=x"],
        r"--prune_below: 'x' is not a list of values; write them in the form --prune_below=\[0\.1,0\.2\]",
    ),
    "policy a word": (
        ["--policy=x"],
        r"--policy: 'x' is not a list of values; write them one by one: --policy\.NAME=VALUE",
    ),
    "protocol a word": (
        ["--protocol=x"],
        r"--protocol: 'x' is not a list of values; write them one by one: --protocol\.NAME=VALUE",
    ),
    "prune_below": (["--prune_below=[.nan]"], "prune_below: nan is not between 0 and 1"),
    "epochs": (["--protocol.epochs=0"], r"run: protocol\.epochs: 0 is not between 1 and 10000"),
    "momentum": (["--protocol.momentum=1"], r"run: protocol\.momentum: 1(\.0)? is not between 0\.0 and 0\.9999"),
    "schedule": (
        ["--protocol.schedule=onecycle"],
        r"--protocol\.schedule: 'onecycle' is unknown; did you mean 'one_cycle'\?",
    ),
    "config": (["--config=nowhere.yaml"], r"--config: File does not exist: .*nowhere\.yaml.*"),
    "config's key": (["--config=bad.yaml"], r".*epoch.*"),
    "budget": (["--budget=huge"], r"sweep\.yaml: budgets: there is no budget 'huge'; known: cpu, gpu, night, smoke"),
    "sweep": (["--sweep=swep.yaml"], r"swep\.yaml: cannot be read: No such file or directory"),
    "ledger": (["--runs=sweep.yaml"], r"runs: the ledger sweep\.yaml cannot be written \(.+\)"),
    "image_px": (
        ["--protocol.image_px=9", "--variant=cnn@cnn4"],
        "cnn@cnn4 on images of 9 px: .+ needs images of 16 px or more, got 9",
    ),
    "width 0": (["--protocol.width=0"], r"run: protocol\.width: 0(\.0)? is not between 0\.01 and 100\.0"),
    "width negative": (["--protocol.width=-1"], r"run: protocol\.width: -1(\.0)? is not between 0\.01 and 100\.0"),
    "width huge": (["--protocol.width=1e9"], r"run: protocol\.width: 1000000000\.0 is not between 0\.01 and 100\.0"),
    "width nan": (["--protocol.width=nan"], r"--protocol\.width: 'nan' is not a number"),
    "optimiser": (["--protocol.optimiser=muno"], r"--protocol\.optimiser: 'muno' is unknown; did you mean 'muon'\?"),
    "averaging": (["--protocol.averaging=maybe"], r"--protocol\.averaging: 'maybe' is .+"),
    "muon without filters": (
        ["--variant=stn_affine@fcn", "--protocol.optimiser=muon"],
        r"protocol\.optimiser: muon trains filters of convolutions, and the backbone of stn_affine@fcn has none; "
        "write optimiser: sgd or adamw",
    ),
    "recipe of another backbone": (
        ["--variant=cnn_recipe@resnet18"],
        "cnn_recipe@resnet18 on images of 32 px: "
        "cnn_recipe takes parts of the backbone cnn away, and this is another one",
    ),
    "border": (
        ["--variant=cnn+flip_crop:border=reflections"],
        r".+ border: 'reflections' is not one of reflection, black, border, mean; did you mean 'reflection'\?",
    ),
    "padding": (
        ["--variant=cnn+flip_crop:padding_px=20:border=reflection"],
        r"policy\.padding_px: 20\.0 is not between 0 and 16 with border=reflection",
    ),
}

OTHERS = {
    "command": (["swep"], r"unknown command 'swep'; did you mean 'sweep'\?"),
    "no ledger": (["status"], "runs: there is no ledger at runs; `make sweep` makes one"),
    "no ledger for tables": (["tables", "--runs=nowhere"], "runs: there is no ledger at nowhere; .+"),
    "no study": (["tables", "--runs=."], r"runs: \. holds no study yet; `make sweep` makes one"),
    "nothing to show": (["dashboard"], r"runs: no runs to show yet; .+"),
    "wandb-sweep": (["wandb-sweep", "--variant=cnnn"], r"variant: 'cnnn' is not in sweep\.yaml; did you mean 'cnn'\?"),
    "word": (["sweep", "smoke"], "unrecognized arguments: smoke"),
    "minutes": (["probe", "pictures", "--minutes=.nan"], r"minutes: nan is not between 0\.5 and 1440"),
    "no minutes": (["probe", "pictures", "--minutes=0"], r"minutes: 0 is not between 0\.5 and 1440"),
    "nothing to probe": (["probe", "pictures"], "folder 'pictures': does not exist.*"),
}


def check_refusal(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    """Exit status 2, one line on stderr that is the expected one, and nothing written."""
    before = contents(here), stamps(here)
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    assert captured.err.count("\n") == 1 and captured.err.endswith("\n")
    assert re.fullmatch(f"error: {expected}", captured.err[:-1]), captured.err
    assert (contents(here), stamps(here)) == before


@pytest.mark.parametrize("case", SWEEPS)
def test_a_sweep_refuses(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = SWEEPS[case]
    write_sweep(here)
    check_refusal(here, capsys, ["sweep", "--budget=smoke", *arguments], expected)


@pytest.mark.parametrize("case", SWEEP_FILES)
def test_a_sweep_of_a_file_refuses(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, value, expected = SWEEP_FILES[case]
    write_changed_sweep(here, place, value)
    check_refusal(here, capsys, ["sweep", "--budget=smoke"], expected)


@pytest.mark.parametrize("case", RUNS)
def test_a_run_refuses(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = RUNS[case]
    write_sweep(here)
    (here / "bad.yaml").write_text("protocol: {epoch: 3}\n")
    check_refusal(here, capsys, ["run", "--budget=smoke", *arguments], expected)


@pytest.mark.parametrize("case", OTHERS)
def test_other_commands_refuse(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = OTHERS[case]
    write_sweep(here)
    check_refusal(here, capsys, arguments, expected)


@pytest.mark.parametrize("command", ["sweep", "run", "plan", "probe"])
@pytest.mark.parametrize("case", FOLDERS)
def test_images_that_cannot_be_used_are_refused(case, command, here, capsys):
    make, expected = FOLDERS[case]
    make(here / "pictures")
    write_sweep(here)
    arguments = ["pictures"] if command == "probe" else ["--budget=smoke", "--data=pictures"]
    check_refusal(here, capsys, [command, *arguments], expected)


def test_images_without_a_gpu_are_no_gpus_work(here, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write_changed_sweep(here, ["protocol", "device"], "cuda")
    expected = "device: 'cuda' is not available on this machine; available: .+"
    check_refusal(here, capsys, ["sweep", "--budget=smoke"], expected)
    check_refusal(here, capsys, ["run", "--budget=smoke"], expected)


def test_a_full_disk_is_one_line(here, capsys, monkeypatch):
    def status(options: object) -> int:
        raise OSError(28, "No space left on device", "runs/studies/x/study.json")

    monkeypatch.setattr("experiments.terminal.commands.status.main", status)
    said = "runs/studies/x/study.json: No space left on device; make room there and give the same command again"
    check_refusal(here, capsys, ["status"], said)


def test_what_a_person_wrote_cannot_break_the_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    check_refusal(here, capsys, ["run", "--budget=a\nb\x1b[31m\x85c"], r"sweep.+ budget 'a\\nb\\x1b\[31m\\x85c'; .+")
    check_refusal(here, capsys, ["sw\n\x1beep"], "unknown command .+")


@pytest.mark.long
def test_a_refusal_through_the_shell(here: Path) -> None:
    write_sweep(here)
    ended = run("sweep", "--budget", "huge", cwd=here)
    assert (ended.returncode, ended.stdout) == (2, "Reading the study sweep.yaml ...\n")
    assert ended.stderr == "error: sweep.yaml: budgets: there is no budget 'huge'; known: cpu, gpu, night, smoke\n"
    assert [path.name for path in here.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (RuntimeError("can't start new thread"), "this machine allows no more threads: raise `ulimit -u`, or"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "allow more processes (`ulimit -u`) and"),
        (
            ImportError("libgomp.so.1: cannot open shared object file: No such file or directory"),
            "the system lacks it; its package manager has it",
        ),
        (
            ImportError("libtorch_cuda.so: failed to map segment"),
            "a library cannot be loaded: libtorch_cuda.so: failed",
        ),
    ],
)
def test_what_a_machine_does_not_allow_is_said_in_a_line(fault, said, monkeypatch, capsys):
    def raise_it(arguments: Sequence[str]) -> int:
        raise fault

    monkeypatch.setattr(cli, "run_command", raise_it)
    assert main(["plan"]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1


@pytest.mark.parametrize("fault", [RuntimeError("of our own"), ImportError("no module named x")])
def test_a_fault_of_our_own_is_not_taken_for_the_machine_s(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(arguments: Sequence[str]) -> int:
        raise fault

    monkeypatch.setattr(cli, "run_command", raise_it)
    with pytest.raises(type(fault)):
        main(["plan"])


def test_a_folder_that_was_deleted_is_named_before_any_library_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = (
        "import os, sys; os.rmdir(os.getcwd()); from experiments.terminal import cli; sys.exit(cli.main(['variants']))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path / "gone", env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "error: the folder that this was started in has been deleted; `cd` to it again\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--runs="],
        ["status", "--runs", ""],
        ["plan", "--runs=", "--label", "."],
        ["plan", "--data="],
        ["probe", ""],
    ],
)
def test_a_path_that_is_empty_is_not_the_folder_we_are_in(arguments, here, capsys):
    assert main(arguments) == 2
    assert ": is empty, as a variable of the shell is that was not set; give it a path\n" in capsys.readouterr().err
    assert main(["status", "--runs", "."]) == 0
    assert main(["report", "--runs=.", "--study", ""]) == 2
    assert "holds no study yet" in capsys.readouterr().err
