"""The command line: what each command does, and one line for whatever a person may get wrong."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments import commands
from experiments.cli import build_parser, main
from experiments.commands import COMMANDS
from experiments.ledger import Ledger
from experiments.plan import make_plan
from experiments.study import load_study
from experiments.sweep import Sweep
from tests.command_line import contents, run, stamps, start
from tests.image_folders import make_classes, make_parts, pixels_of, save

TUTORIAL = Path(__file__).parents[1] / "experiments/configs/tutorial.yaml"

STUDY: dict[str, Any] = {
    "name": "small",
    "task": "sprites",
    "variants": [{"variant": "cnn", "baseline": "cnn"}, {"variant": "stn_affine+affine", "baseline": "cnn"}],
    "protocol": {
        "train_images": 64,
        "val_images": 32,
        "test_images": 50,
        "epochs": 1,
        "batch_size": 32,
        "precision": "fp32",
        "device": "cpu",
    },
    "search": {"trials": 2, "wave_size": 2, "space": {"optim.lr": {"min": 0.01, "max": 0.5}}},
    "final_seeds": 1,
    "wandb": {"mode": "disabled"},
}


def write_sweep(folder: Path, *dotted: str | int, value: Any = None, delete: bool = False) -> Path:
    """The small study as a file in the folder, with the value that the keys lead to in place of its own."""
    study = json.loads(json.dumps(STUDY))
    if dotted:
        place: Any = study
        for key in dotted[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
        place[dotted[-1]] = value
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder as a person's own; main() changes a signal's handler and the number of threads."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    handler, num_threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield folder
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: python -m experiments [options] {command}")
    arguments = re.findall(r"^  (?:-h, )?(--[\w.]+)(?: [^ ]+)?( {2,}|\n {10,}|\n)(\S?)", printed, re.MULTILINE)
    assert arguments and all(text for name, _, text in arguments), arguments


def test_commands_are_listed_where_none_is_given(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert set(build_parser()[1]) == set(COMMANDS)
    assert all(re.search(rf"^ +{command} +\S", printed, re.MULTILINE) for command in COMMANDS)


def test_help_and_typing_errors_do_not_wait_for_torch() -> None:
    program = (
        "import sys\nfrom experiments.cli import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert main(['sweeep']) == 2 and 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr == "error: unknown command 'sweeep'; did you mean 'sweep'?\n"


SMALL_RUN = [
    *("--protocol.train_images=64", "--protocol.val_images=32", "--protocol.test_images=50"),
    *("--protocol.epochs=2", "--protocol.batch_size=32", "--protocol.precision=fp32", "--protocol.device=cpu"),
]


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
    assert (config["stage"], config["pose"], config["protocol"]["epochs"]) == ("final", "R", 2)
    assert config["optim"] == {"lr": 0.1, "weight_decay": 0.001}
    assert config["model"] == {"loc_lr_factor": 1.0}
    assert config["policy"]["max_deg"] == 5.0
    assert f"test {100 * result['test_accuracy']:.1f} %" in re.sub(r"test +", "test ", printed)
    assert [path.name for path in (here / "runs/wandb/logged").iterdir()] == [folder.name]

    before = stamps(here / "runs/runs")
    assert main([*command, *agents]) == 0
    assert "epoch" not in capsys.readouterr().out
    assert stamps(here / "runs/runs") == before


def test_a_run_alone_is_the_run_of_the_study(here: Path, cache: Path) -> None:
    """`run` with nothing but a variant makes the run that a sweep would make of it, under the same key."""
    path = write_sweep(here, "poses", value=["R"])
    plan = make_plan(load_study(path, "smoke"), label="", cache=cache, say=lambda line: None)
    under_way = Sweep(plan, Ledger(here / "runs", read_only=True), store=False)
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
    options = build_parser()[0].parse_args(["run", "--config", str(TUTORIAL)])["run"]
    protocol = options.protocol
    assert (options.task, options.variant, options.pose) == ("cifar10", "stn_affine@lenet", "upright")
    assert (protocol.epochs, protocol.batch_size, protocol.schedule) == (50, 64, "constant")
    assert (protocol.momentum, protocol.nesterov, protocol.label_smoothing) == (0, False, 0)
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


def test_variants_lists_everything_that_has_a_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["variants", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"model", "backbone", "policy", "task", "pose"}
    assert {"cnn", "cnn_matched", "stn_affine"} <= set(report["model"])
    assert report["model"]["stn_affine"]["hyper-parameters"] == {"loc_lr_factor": 0.1}
    assert main(["variants"]) == 0
    printed = capsys.readouterr().out
    for kind, entries in report.items():
        for name, entry in entries.items():
            assert entry["what"]
            assert re.search(rf"^ +({kind})? +{name} +{re.escape(entry['what'][:20])}", printed, re.MULTILINE)
            assert all(f"{kind}.{field}={value:g}" in printed for field, value in entry["hyper-parameters"].items())


def test_a_plan_is_printed_and_nothing_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    assert main(["plan", "--budget=smoke", "--jobs=3"]) == 0
    printed = capsys.readouterr().out
    assert "Study small-sprites-smoke   budget smoke   protocol " in printed
    assert re.search(r"4 trials and 2 final runs; about \d+ s with 3 workers on this machine\.", printed)
    assert [path.name for path in here.iterdir()] == ["sweep.yaml"]
    assert main(["plan"]) == 0
    assert "since " in capsys.readouterr().out.splitlines()[0]


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


# Arguments beside `sweep --budget smoke`, and what stands in place of which value of sweep.yaml.
SWEEPS: dict[str, tuple[list[str], tuple[list[str | int], Any] | None, str]] = {
    "argument": (["--trails=3"], None, r"unknown argument --trails; .+"),
    "argument with a hyphen": (
        ["--retry-failed"],
        None,
        r"unknown argument --retry-failed; did you mean '--retry_failed'\?",
    ),
    "abbreviation": (["--report=x"], None, r"unknown argument --report; did you mean '--reports'\?"),
    "budget": (["--budget=huge"], None, "budget: 'huge' is unknown; known: cpu, gpu, smoke"),
    "budget misspelt": (["--budget=smok"], None, r"budget: 'smok' is unknown; did you mean 'smoke'\?"),
    "no file": (["--sweep=swep.yaml"], None, r"swep\.yaml: cannot be read: No such file or directory"),
    "jobs": (["--jobs=-1"], None, "jobs: -1 is not between 0 and 1024"),
    "jobs absurd": (["--jobs=100000"], None, "jobs: 100000 is not between 0 and 1024"),
    "jobs a word": (["--jobs=all"], None, "--jobs: Expected a int. Got value: all"),
    "workers": (["--workers_per_gpu=-2"], None, "workers_per_gpu: -2 is not between 0 and 1024"),
    "key": ([], (["final_seed"], 3), r"sweep\.yaml: final_seed: unknown key; did you mean 'final_seeds'\?"),
    "value": (
        [],
        (["protocol", "epochs"], 0),
        r"sweep\.yaml: protocol\.epochs: 0 is not between 1 and 10000",
    ),
    "budget's value": (
        [],
        (["budgets", "gpu", "protocol", "epochs"], 10**9),
        r"sweep\.yaml: budgets\.gpu\.protocol\.epochs: 1000000000 is not between 1 and 10000",
    ),
    "task": ([], (["task"], "sprite"), r"task 'sprite': unknown; did you mean 'sprites'\?"),
    "task with more": ([], (["task"], "sprites:x"), "task 'sprites:x': sprites takes nothing after its name"),
    "pose": ([], (["poses"], ["RST"]), r"sweep\.yaml: pose: 'RST' is unknown; did you mean 'RTS'\?"),
    "model": (
        [],
        (["variants", 1, "variant"], "stn_afine"),
        r"sweep\.yaml: variant: 'stn_afine' has the unknown model 'stn_afine'; did you mean 'stn_affine'\?",
    ),
    "backbone": (
        [],
        (["variants", 1, "variant"], "cnn@resnet"),
        r"sweep\.yaml: variant: 'cnn@resnet' has the unknown backbone 'resnet'; did you mean 'resnet18'\?",
    ),
    "policy": (
        [],
        (["variants", 1, "variant"], "cnn+flipcrop"),
        r"sweep\.yaml: variant: 'cnn\+flipcrop' has the unknown policy 'flipcrop'; did you mean 'flip_crop'\?",
    ),
    "hyper-parameter": (
        [],
        (["search", "extras"], {"affine": {"policy.max_degrees": {"min": 1, "max": 2}}}),
        r"sweep\.yaml: search: stn_affine\+affine has no 'policy\.max_degrees'; did you mean 'policy\.max_deg'\?",
    ),
    "hyper-parameter of one only": (
        [],
        (["search", "space", "model.loc_lr_factor"], {"min": 0.1, "max": 1}),
        r"sweep\.yaml: search: cnn has no 'model\.loc_lr_factor'; .+",
    ),
    "hyper-parameter's value": (
        [],
        (["search", "extras"], {"affine": {"policy.max_scale": {"min": -3, "max": 2}}}),
        r"sweep\.yaml: search: policy\.max_scale: -3 is not a number of 1 or more",
    ),
    "image_px": ([], (["protocol", "image_px"], 9), r"protocol\.image_px: .+ needs images of 16 px or more, got 9"),
    "ledger a file": (["--runs=sweep.yaml"], None, r"runs: the ledger sweep\.yaml cannot be written \(.+\)"),
    "ledger in a file": (["--runs=sweep.yaml/x"], None, r"runs: the ledger sweep\.yaml/x cannot be written \(.+\)"),
    "not logged in": ([], (["wandb", "mode"], "online"), r"not logged in to W&B: .+"),
}

RUNS = {
    "argument": (["--sed=3"], r"unknown argument --sed; did you mean '--seed'\?"),
    "abbreviation": (
        ["--protocol.epoch=3"],
        r"unknown argument --protocol\.epoch; did you mean '--protocol\.epochs'\?",
    ),
    "seed": (["--seed=-1"], "seed: -1 is negative"),
    "seed a fraction": (["--seed=1.5"], "--seed: Expected a int. Got value: 1.5"),
    "stage": (["--stage=finl"], r"--stage: 'finl' is unknown; did you mean 'final'\?"),
    "pose": (["--pose=upriht"], r"pose: 'upriht' is unknown; did you mean 'upright'\?"),
    "task": (["--task=folder"], "task 'folder': needs a path, as in folder:PATH"),
    "task unknown": (["--task=cifar"], r"task 'cifar': unknown; did you mean 'cifar10'\?"),
    "model": (["--variant=cn"], r"variant: 'cn' has the unknown model 'cn'; did you mean 'cnn'\?"),
    "backbone": (["--variant=cnn@lenett"], r".* unknown backbone 'lenett'; did you mean 'lenet'\?"),
    "policy": (["--variant=cnn+"], r"variant: 'cnn\+' has the unknown policy ''; known: .+"),
    "lr nan": (["--optim.lr=nan"], "--optim.lr: Expected a float. Got value: nan"),
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
    "prune_below": (["--prune_below=[.nan]"], "prune_below: nan is not between 0 and 1"),
    "epochs": (["--protocol.epochs=0"], r"run: protocol\.epochs: 0 is not between 1 and 10000"),
    "momentum": (["--protocol.momentum=1"], r"run: protocol\.momentum: 1(\.0)? is not between 0\.0 and 0\.9999"),
    "schedule": (
        ["--protocol.schedule=onecycle"],
        r"--protocol\.schedule: 'onecycle' is unknown; did you mean 'one_cycle'\?",
    ),
    "config": (["--config=nowhere.yaml"], r"--config: File does not exist: .*nowhere\.yaml.*"),
    "config's key": (["--config=bad.yaml"], r".*epoch.*"),
    "budget": (["--budget=huge"], "budget: 'huge' is unknown; known: cpu, gpu, smoke"),
    "sweep": (["--sweep=swep.yaml"], r"swep\.yaml: cannot be read: No such file or directory"),
    "ledger": (["--runs=sweep.yaml"], r"runs: the ledger sweep\.yaml cannot be written \(.+\)"),
    "image_px": (["--protocol.image_px=9"], r"protocol\.image_px: .+ needs images of 16 px or more, got 9"),
}

OTHERS = {
    "command": (["swep"], r"unknown command 'swep'; did you mean 'sweep'\?"),
    "no ledger": (["status"], "runs: there is no ledger at runs; `make sweep` makes one"),
    "no ledger for tables": (["tables", "--runs=nowhere"], "runs: there is no ledger at nowhere; .+"),
    "no study": (["tables", "--runs=."], r"study: '' is not in \.; none are known"),
    "nothing to show": (["dashboard"], r"runs/wandb: no runs to show yet; .+"),
    "wandb-sweep": (["wandb-sweep", "--variant=cnnn"], r"variant: 'cnnn' is not in sweep\.yaml; did you mean 'cnn'\?"),
    "word": (["sweep", "smoke"], "unrecognized arguments: smoke"),
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
    arguments, change, expected = SWEEPS[case]
    dotted, value = change or ([], None)
    write_sweep(here, *dotted, value=value)
    check_refusal(here, capsys, ["sweep", "--budget=smoke", *arguments], expected)


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


@pytest.mark.parametrize("command", ["sweep", "run", "plan"])
@pytest.mark.parametrize("case", FOLDERS)
def test_images_that_cannot_be_used_are_refused(
    case: str, command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expected = FOLDERS[case]
    make(here / "pictures")
    write_sweep(here)
    check_refusal(here, capsys, [command, "--budget=smoke", "--data=pictures"], expected)


def test_images_without_a_gpu_are_no_gpus_work(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write_sweep(here, "protocol", "device", value="cuda")
    expected = "device: 'cuda' is not available on this machine; available: .+"
    check_refusal(here, capsys, ["sweep", "--budget=smoke"], expected)
    check_refusal(here, capsys, ["run", "--budget=smoke"], expected)


def test_a_full_disk_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(options: object) -> int:
        raise OSError(28, "No space left on device", "runs/studies/x/study.json")

    monkeypatch.setitem(commands.COMMANDS, "status", status)
    check_refusal(here, capsys, ["status"], "runs/studies/x/study.json: No space left on device")


def test_what_a_person_wrote_cannot_break_the_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    check_refusal(here, capsys, ["run", "--budget=a\nb\x1b[31m\x85c"], "budget: 'a\\\\nb\\\\x1b\\[31m\\\\x85c' is .+")
    check_refusal(here, capsys, ["sw\n\x1beep"], "unknown command .+")


def test_a_refusal_through_the_shell(here: Path) -> None:
    write_sweep(here)
    ended = run("sweep", "--budget", "huge", cwd=here)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: budget: 'huge' is unknown; known: cpu, gpu, smoke\n"
    assert [path.name for path in here.iterdir()] == ["sweep.yaml"]


def test_a_reader_that_has_seen_enough_gets_no_traceback(here: Path) -> None:
    process = start("variants", cwd=here)
    assert process.stdout and process.stderr
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert stderr == ""
